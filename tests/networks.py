"""The smallest network of each kind that still has all its parts."""

from expertree.experts.backbones.adair import AdaIRConfig
from expertree.experts.backbones.airnet import AirNetConfig
from expertree.experts.backbones.instructir import InstructIRConfig
from expertree.experts.backbones.lora_ir import LoRAIRConfig
from expertree.experts.backbones.moce_ir import MoCEIRConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.promptir import PromptIRConfig
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.experts.backbones.retinexformer import RetinexformerConfig
from expertree.experts.backbones.sler_ir import SLERIRConfig

NETWORK_ATOL = 0.5 / 255
"""Half a grey level: NAFNet's channel attention averages over the tile, not over the image."""

TINY = {
    "nafnet": NAFNetConfig(width=4, encoder=(1, 1), middle=1, decoder=(1, 1)),
    "restormer": RestormerConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
    ),
    "retinexformer": RetinexformerConfig(width=4, encoder=(1, 1), middle=1),
    "promptir": PromptIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        prompts=2,
        prompt_widths=(8, 4, 4),
        prompt_px=(2, 4, 8),
    ),
    "adair": AdaIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
    ),
    "moce_ir": MoCEIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        windows=(2, 4, 8),
        gate="output",
    ),
    "airnet": AirNetConfig(width=4, groups=1, blocks=1, embedding=8, queue=10),
    "instructir": InstructIRConfig(
        width=4, encoder=(1, 1), middle=1, decoder=(1, 1), told_width=8, embed_dim=8
    ),
    "lora_ir": LoRAIRConfig(
        width=4,
        encoder=(1, 1),
        middle=1,
        decoder=(1, 1),
        kinds=("noise", "blur", "haze"),
        rank=2,
        embed_dim=8,
        router_hidden=8,
        router_dim=8,
        gate_hidden=4,
    ),
    "sler_ir": SLERIRConfig(
        width=4,
        encoder=(1, 1, 1),
        middle=1,
        decoder=(1, 1, 1),
        heads=(1, 2, 2, 4),
        refinement=1,
        experts=2,
        embed_dim=8,
        router_hidden=8,
        router_dim=4,
        prior_width=8,
    ),
}
