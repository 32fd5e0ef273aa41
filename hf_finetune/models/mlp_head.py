"""A classification head with one hidden layer, on any classifier of transformers.

This file is copied into the folders of checkpoints that have such a head, with one line more that names the classifier:
no class of transformers has this shape, so these checkpoints load with ``trust_remote_code=True``. They carry a
``model_type`` of their own: without that consent loading stops, where otherwise it would go on with a random head.
"""

import transformers
from torch import nn

MODULE_NAME = "modeling_mlp_head"


def replace_classifier(model, hidden_size):
    """Put ``Linear, ReLU, Linear`` where the last linear layer stands, with weights of its own."""
    path, linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    head = nn.Sequential(
        nn.Linear(linear.in_features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, linear.out_features)
    )
    setattr(model.get_submodule(parent), child, head)


def classes_on(base_name):
    """The configuration class and the model class that put an MLP head on the classifier ``transformers.<base_name>``."""
    base = getattr(transformers, base_name)

    class MlpHeadConfig(base.config_class):
        model_type = base.config_class.model_type + "_mlp_head"

    class MlpHeadModel(base):
        config_class = MlpHeadConfig

        def __init__(self, config):
            super().__init__(config)
            replace_classifier(self, config.head_hidden_size)
            self.post_init()

    MlpHeadModel.__annotations__ = {"config": MlpHeadConfig}
    return MlpHeadConfig, MlpHeadModel
