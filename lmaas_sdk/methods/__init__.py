"""Ways to make a predictor of labelled examples: each has `await method.fit(train, dev)`."""

from lmaas_sdk.methods.black_box import BlackBoxPredictor, BlackBoxTuning
from lmaas_sdk.methods.calibration import CONTENT_FREE
from lmaas_sdk.methods.deep import DEEP_PRESET, DeepBlackBoxPredictor, DeepBlackBoxTuning
from lmaas_sdk.methods.demonstrations import MOST_SHOTS, draw_demonstrations
from lmaas_sdk.methods.in_context import InContextLearning, InContextPredictor
from lmaas_sdk.methods.loading import load_predictor, register_predictor
from lmaas_sdk.methods.manual import ManualPredictor, ManualPrompt
from lmaas_sdk.methods.method import Method, MethodPredictor
from lmaas_sdk.methods.saved import SavedPredictor

__all__ = [
    "CONTENT_FREE",
    "DEEP_PRESET",
    "MOST_SHOTS",
    "BlackBoxPredictor",
    "BlackBoxTuning",
    "DeepBlackBoxPredictor",
    "DeepBlackBoxTuning",
    "InContextLearning",
    "InContextPredictor",
    "ManualPredictor",
    "ManualPrompt",
    "Method",
    "MethodPredictor",
    "SavedPredictor",
    "draw_demonstrations",
    "load_predictor",
    "register_predictor",
]
