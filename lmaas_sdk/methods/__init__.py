"""Ways to make a predictor of labelled examples: each has `await method.fit(train, dev)`."""

from lmaas_sdk.methods.black_box import BlackBoxPredictor, BlackBoxTuning
from lmaas_sdk.methods.calibration import CONTENT_FREE
from lmaas_sdk.methods.deep import DEEP_PRESET, DeepBlackBoxPredictor, DeepBlackBoxTuning
from lmaas_sdk.methods.demonstrations import MOST_SHOTS, draw_demonstrations
from lmaas_sdk.methods.descent import TrainingRecord
from lmaas_sdk.methods.ensemble import EnsemblePredictor, best_candidates
from lmaas_sdk.methods.feature_bilstm import FeatureBiLSTM, FeatureBiLSTMPredictor
from lmaas_sdk.methods.feature_linear import FeatureLinear, FeatureLinearPredictor
from lmaas_sdk.methods.in_context import InContextLearning, InContextPredictor
from lmaas_sdk.methods.loading import load_predictor, register_predictor
from lmaas_sdk.methods.manual import ManualPredictor, ManualPrompt
from lmaas_sdk.methods.method import Foreseeing, Method, MethodPredictor
from lmaas_sdk.methods.model_tuning import ModelTuning, ModelTuningPredictor
from lmaas_sdk.methods.prompt_choice import PromptChoice, TriedPrompt, asked_as
from lmaas_sdk.methods.prompt_ensemble import PromptEnsemble
from lmaas_sdk.methods.prompt_tuning import PromptTuning, PromptTuningPredictor
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.methods.sequential import SequentialRandomEmbeddings
from lmaas_sdk.methods.template_choice import choose_template
from lmaas_sdk.methods.trainable import TrainableBackend, Training
from lmaas_sdk.methods.word_choice import choose_words
from lmaas_sdk.tuning.learned_projection import LearnedProjection, learn_projection, principal_projection

__all__ = [
    "CONTENT_FREE",
    "DEEP_PRESET",
    "MOST_SHOTS",
    "BlackBoxPredictor",
    "BlackBoxTuning",
    "DeepBlackBoxPredictor",
    "DeepBlackBoxTuning",
    "EnsemblePredictor",
    "FeatureBiLSTM",
    "FeatureBiLSTMPredictor",
    "FeatureLinear",
    "FeatureLinearPredictor",
    "Foreseeing",
    "InContextLearning",
    "InContextPredictor",
    "LearnedProjection",
    "ManualPredictor",
    "ManualPrompt",
    "Method",
    "MethodPredictor",
    "ModelTuning",
    "ModelTuningPredictor",
    "PromptChoice",
    "PromptEnsemble",
    "PromptTuning",
    "PromptTuningPredictor",
    "SavedPredictor",
    "SequentialRandomEmbeddings",
    "TrainableBackend",
    "Training",
    "TrainingRecord",
    "TriedPrompt",
    "asked_as",
    "best_candidates",
    "choose_template",
    "choose_words",
    "draw_demonstrations",
    "learn_projection",
    "load_predictor",
    "principal_projection",
    "register_predictor",
]
