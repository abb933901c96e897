"""Put trainable adapters around the layers of a network, by peft."""

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from expertree.experts.adapter import DOWN, UP, AdapterConfig, adapter_layers

_PEFTS_NAME = "default"
"""Name of the adapter in peft, which can keep several; here there is one."""


def attach_adapter(network: nn.Module, config: AdapterConfig) -> dict[str, nn.Parameter]:
    """Put an adapter that changes nothing yet around a network's layers, and freeze all the rest.

    A is drawn from torch's global generator, B is zero, whole layers begin as copies of their own.

    Args:
        network: The root's, in the form that calls every layer as a module; changed in place. A
            fast form reads weights past the layers, so the adapter would neither work nor learn.
        config: The adapter's settings.

    Returns:
        The parameters that are left to train, by the names of `adapter_shapes`.
    """
    layers = adapter_layers(network, config)
    wanted = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(layers.factored),
        modules_to_save=list(layers.whole),
    )
    inject_adapter_in_model(wanted, network, adapter_name=_PEFTS_NAME)
    parameters = {
        f"{layer}.{part}": network.get_parameter(f"{layer}.{part}.{_PEFTS_NAME}.weight")
        for layer in layers.factored
        for part in (DOWN, UP)
    }
    for layer in layers.whole:
        copied = network.get_submodule(f"{layer}.modules_to_save.{_PEFTS_NAME}")
        parameters |= {f"{layer}.{name}": value for name, value in copied.named_parameters()}
    return parameters
