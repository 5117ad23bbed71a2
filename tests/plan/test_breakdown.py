"""Tables of a step's time: every millisecond has one row, named by its module."""

import pytest
from programs import CHAIN, PROGRAM
from test_timeline import measure

from retroguide_jax.plan import breakdown, hlo

_STEP = "jit(train_step)/cond/branch_1_fun"


@pytest.mark.parametrize(
    ("op_name", "module"),
    [
        ("jvp(Embedder.both)/Embedder/towers_aerial/block_3/proj/dot_general", "embedder block"),
        ("Embedder/towers_ground/stem/Conv_0/conv_general_dilated", "guide stem"),
        ("transpose(jvp(Embedder.both))/Embedder/heads_aerial/Dense_0/dot", "embedder heads"),
        (
            "transpose(jvp(Discriminator.extract))/blocks_0/Conv_1/cond/branch_0_fun/x",
            "discriminator blocks_0",
        ),
        (
            "jvp(transpose(jvp(Discriminator)))/Discriminator.judge/describe/dot",
            "discriminator describe",
        ),
        ("jvp(Generator.synthesize)/facade_1/Conv_0/conv", "generator facade_1"),
        ("jvp(Generator.synthesize)/facade_1/RegionMask_0/Conv_1/conv", "generator region masks"),
        ("jvp(Generator.synthesize)/mul", "generator"),
        ("jvp(Generator.synthesize)/pr,brc->bpc/dot_general", "generator"),
        ("optimizer/mul", "optimizer"),
        ("transpose(jvp())/mul", "losses"),
        ("mul", "updates"),
    ],
)
def test_modules_are_named(op_name, module):
    assert breakdown.name_module(f"{_STEP}/{op_name}") == module


@pytest.mark.parametrize("text", [PROGRAM, CHAIN])
def test_rows_add_up_to_the_step(text):
    usage = measure(text, shares={"penalty": 0.25})
    rows = breakdown.sum_modules(usage)
    assert sum(row["seconds"] for row in rows) == pytest.approx(usage.scheduled_seconds)
    assert sum(row["flops"] for row in rows) == pytest.approx(usage.flops)
    assert sum(row["bytes"] for row in rows) == pytest.approx(usage.hbm_bytes)


def test_the_longest_kernel_is_the_product():
    (first, *_) = breakdown.list_kernels(measure(CHAIN))
    assert first["kernel"] == "fusion kOutput" and first["flops"] == 2 * 128**3
    assert first["shape"].startswith("(f32[128,128]")


def test_kernels_of_libraries_keep_their_names():
    module = hlo.parse_module(
        "ENTRY %m (p: f32[2]) -> f32[2] {\n"
        "  %p = f32[2]{0} parameter(0)\n"
        '  ROOT %x = f32[2]{0} custom-call(%p), custom_call_target="__cudnn$convForward"\n'
        "}\n"
    )
    assert breakdown.name_kernel(module.root("m")) == "__cudnn$convForward"


def test_written_bytes_by_form():
    written = breakdown.measure_written(measure(CHAIN))
    # The fusion writes the product; the gathered array beside it belongs to another kernel.
    assert written["float32"] == 128 * 128 * 4 and written["padding"] == 0
