"""Ways to make a predictor of labelled examples: each has `await method.fit(train, dev)`."""

from lmaas_sdk.methods.black_box import BlackBoxPredictor, BlackBoxTuning
from lmaas_sdk.methods.calibration import CONTENT_FREE
from lmaas_sdk.methods.demonstrations import MOST_SHOTS, draw_demonstrations
from lmaas_sdk.methods.in_context import InContextLearning, InContextPredictor
from lmaas_sdk.methods.loading import load_predictor, register_predictor
from lmaas_sdk.methods.manual import ManualPredictor, ManualPrompt
from lmaas_sdk.methods.method import Method, MethodPredictor
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.methods.sequential import SequentialRandomEmbeddings
from lmaas_sdk.tuning.learned_projection import LearnedProjection, learn_projection, principal_projection

__all__ = [
    "CONTENT_FREE",
    "MOST_SHOTS",
    "BlackBoxPredictor",
    "BlackBoxTuning",
    "InContextLearning",
    "InContextPredictor",
    "LearnedProjection",
    "ManualPredictor",
    "ManualPrompt",
    "Method",
    "MethodPredictor",
    "SavedPredictor",
    "SequentialRandomEmbeddings",
    "draw_demonstrations",
    "learn_projection",
    "load_predictor",
    "principal_projection",
    "register_predictor",
]
