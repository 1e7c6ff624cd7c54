"""Inspection: which modalities and which neighbours a prediction rests on."""

from skmmg.inspection._attention import attention_frame
from skmmg.inspection._importance import modality_importance

__all__ = ["attention_frame", "modality_importance"]
