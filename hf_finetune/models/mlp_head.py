"""A classification head with one hidden layer, for any classifier of transformers.

No class of transformers has such a head. So this file is copied into the model's folder, with one more line that names
the classifier, and the model loads with ``trust_remote_code=True``. Its own ``model_type`` makes loading fail without
that flag; otherwise transformers would load the model with a random head.
"""

import transformers
from torch import nn

MODULE_NAME = "modeling_mlp_head"


def replace_classifier(model, hidden_size):
    """Replace the last linear layer of a model by ``Linear, ReLU, Linear``."""
    path, linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    head = nn.Sequential(
        nn.Linear(linear.in_features, hidden_size), nn.ReLU(), nn.Linear(hidden_size, linear.out_features)
    )
    setattr(model.get_submodule(parent), child, head)


def classes_on(base_name):
    """Return the configuration class and the model class of ``transformers.<base_name>`` with an MLP head."""
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
