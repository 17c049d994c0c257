"""DeepSeek-V3/R1 on Hopper in numbers: the shape that every kernel formula refers to.

Source: arXiv 2412.19437 sections 2 and 4 and the model's config.json; hardware: NVIDIA's H100/H800
data sheets; deployment: DeepSeek open-infra-index, 2025 open source week, day 6.
"""

from __future__ import annotations

HIDDEN = 7168
NUM_LAYERS = 61
NUM_DENSE_LAYERS = 3
NUM_MOE_LAYERS = NUM_LAYERS - NUM_DENSE_LAYERS
NUM_EXPERTS = 256
EXPERTS_PER_TOKEN = 8
NODES_PER_TOKEN = 4  # group-limited routing: at most four nodes per token
GPUS_PER_NODE = 8

# (inner, outer) of the matrix products, in the order of a layer.
ATTENTION_GEMMS = ((7168, 2112), (1536, 24576), (512, 32768), (16384, 7168))
DENSE_GEMMS = ((7168, 36864), (18432, 7168))
EXPERT_GEMMS = ((7168, 4096), (2048, 7168))
# A decode step absorbs the product 512 x 32768 into queries and outputs, head by head.
DECODE_BEFORE_GEMMS = ((7168, 2112), (1536, 24576))
DECODE_AFTER_GEMMS = ((16384, 7168),)

FLOP_PER_PAIR = 81_920.0  # 2 * 128 heads * (192 + 128): one query-key pair, keys expanded
FLOP_PER_CONTEXT_TOKEN = 278_528.0  # 2 * 128 heads * (576 + 512): the same, keys compressed
CONTEXT_BYTES = 1152.0  # 576 elements of a token and layer, BF16
DISPATCH_BYTES = 7392.0  # one token and copy: FP8 and its scales
COMBINE_BYTES = 14336.0  # one token and copy: BF16

FP8_FLOP_PER_S = 1.979e15  # dense peak of one GPU
BF16_FLOP_PER_S = 0.989e15
TOTAL_SMS = 132
