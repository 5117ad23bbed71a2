"""The text of compiled programs: shapes, instructions, exchanges, loops."""

import numpy as np
import pytest
from programs import CHAIN, PROGRAM

from retroguide_jax.plan import collectives, costs, hlo, timeline


def test_shapes_fill_whole_tiles_and_know_their_memory():
    small, own, half, flag = hlo.parse_arrays(
        "(f32[3,3,8,8]{3,2,1,0:T(8,128)}, f32[8,64]{0,1:T(8,128)S(1)}, bf16[5,7]{1,0}, pred[4]{0})"
    )
    assert small.num_bytes == 3 * 3 * 8 * 128 * 4 and small.in_hbm
    # Sides are filled from the fastest: 8 of the first to 128, 64 of the second to 64.
    assert own.num_bytes == 128 * 64 * 4 and not own.in_hbm
    assert half.num_bytes == 5 * 7 * 2 and flag.num_bytes == 4
    assert small.padding == 3 * 3 * 8 * (128 - 8) * 4 and half.padding == 0


def test_instructions_with_nested_tuples_and_comments():
    module = hlo.parse_module(
        "ENTRY %m (p: (f32[2], /*index=1*/s32[])) -> f32[2] {\n"
        "  %p = (f32[2]{0:T(128)}, /*index=1*/s32[]{:T(128)}) parameter(0)\n"
        "  ROOT %x.1 = f32[2]{0:T(128)} get-tuple-element(%p), "
        'index=0, metadata={op_name="a/b(c)"}\n'
        "}\n"
    )
    root = module.root(module.entry)
    assert (root.name, root.opcode, root.operands) == ("x.1", "get-tuple-element", ("p",))
    assert root.op_name == "a/b(c)" and root.attribute("index") == "0"
    assert [array.dims for array in module.computations["m"]["p"].arrays] == [(2,), ()]


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse_module("nothing")


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}", [[0, 2], [1, 3]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
        ("source_target_pairs={{0,1},{1,2}}", [[0, 1], [1, 2]]),
    ],
)
def test_groups_in_every_form(text, groups):
    read = collectives.read_groups(f"channel_id=1, {text}, dimensions={{0}}", 4)
    np.testing.assert_array_equal(read, groups)


def test_a_chain_of_fusions_is_one_gather():
    module = hlo.parse_module(CHAIN)
    lines = module.computations["main"].values()
    events = [collectives.find_event(module, "main", line, 4) for line in lines]
    found = [(event.role, event.key) for event in events if event]
    key = "all-gather 9"
    assert found == [("start", key), ("progress", key), ("done", key)]
    start = next(event for event in events if event)
    assert start.collective.num_bytes == 32 * 128 * 2


def test_a_chain_counts_its_own_work_only():
    module = hlo.parse_module(CHAIN)
    lines = module.computations["main"]
    fusion = lines["fusion.2"]
    assert costs.count_flops(module, lines, fusion, 128) == costs.Flops(2 * 128**3, 2 * 128**3)
    # One operand and the result; the other operand lies in the core, the gathered array passes.
    assert costs.count_traffic(module, lines, fusion) == 2 * 128 * 128 * 4


@pytest.mark.parametrize(
    ("text", "useful", "padded"),
    [
        # 64 channels to 32: half and a quarter of a matrix unit's sides.
        ("f32[2,8,8,32] convolution(%a, %b), window={size=1x1}, dim_labels=b01f_01io->b01f", 1, 8),
        # A kernel's gradient contracts over all positions; only its outputs are padded.
        ("f32[1,1,64,32] convolution(%a, %c), window={size=8x8}, dim_labels=f01b_i01o->01bf", 1, 4),
    ],
)
def test_flops_are_padded_to_matrix_units(text, useful, padded):
    module = hlo.parse_module(
        "ENTRY %m (a: f32[2,8,8,64]) -> f32[2] {\n"
        "  %a = f32[2,8,8,64]{3,2,1,0} parameter(0)\n"
        "  %b = f32[1,1,64,32]{3,2,1,0} parameter(1)\n"
        "  %c = f32[2,8,8,32]{3,2,1,0} parameter(2)\n"
        f"  ROOT %x = {text}\n"
        "}\n"
    )
    flops = costs.count_flops(module, module.computations["m"], module.root("m"), 128)
    each = 2 * 2 * 8 * 8 * 64 * 32
    assert flops == costs.Flops(useful * each, padded * each)


@pytest.mark.parametrize(
    ("target", "operands", "result"),
    [
        ("convForward", "%image, %kernel", "bf16[2,8,8,32]"),
        ("convBackwardInput", "%gradient, %kernel", "bf16[2,8,8,64]"),
        ("convBackwardFilter", "%image, %gradient", "bf16[32,3,3,64]"),
    ],
)
def test_flops_of_a_library_are_those_of_its_convolution(target, operands, result):
    module = hlo.parse_module(
        "ENTRY %m (image: bf16[2,8,8,64]) -> bf16[2] {\n"
        "  %image = bf16[2,8,8,64]{3,2,1,0} parameter(0)\n"
        "  %kernel = bf16[32,3,3,64]{3,2,1,0} parameter(1)\n"
        "  %gradient = bf16[2,8,8,32]{3,2,1,0} parameter(2)\n"
        f"  ROOT %x = ({result}{{3,2,1,0}}, u8[16]{{0}}) custom-call({operands}), "
        "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, "
        f'custom_call_target="__cudnn${target}"\n'
        "}\n"
    )
    flops = costs.count_flops(module, module.computations["m"], module.root("m"), 16)
    # A row and a column of the kernel miss the border.
    assert flops.useful == 2 * 2 * 64 * 32 * (8 * 3 - 2) ** 2


def test_flops_of_a_library_product():
    module = hlo.parse_module(
        "ENTRY %m (a: bf16[8,64]) -> bf16[8,32] {\n"
        "  %a = bf16[8,64]{1,0} parameter(0)\n"
        "  %b = bf16[64,32]{1,0} parameter(1)\n"
        '  ROOT %x = bf16[8,32]{1,0} custom-call(%a, %b), custom_call_target="__cublas$gemm", '
        'backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}\n'
        "}\n"
    )
    flops = costs.count_flops(module, module.computations["m"], module.root("m"), 16)
    assert flops.useful == 2 * 8 * 64 * 32


def test_branches_are_recognised_by_their_networks():
    module = hlo.parse_module(PROGRAM)
    assert timeline.name_part(module, "due") == "penalty"
    assert timeline.name_part(module, "not_due") is None


def test_reduce_scatter_within_a_fusion():
    module = hlo.parse_module(
        "%f (a: f32[64,128]) -> f32[16,128] {\n"
        "  %a = f32[64,128]{1,0} parameter(0)\n"
        "  %i = s32[] constant(0)\n"
        "  %r = f32[64,128]{1,0} all-reduce(%a), channel_id=3, replica_groups={{0,1,2,3}}\n"
        "  ROOT %s = f32[16,128]{1,0} dynamic-slice(%r, %i, %i), dynamic_slice_sizes={16,128}\n"
        "}\n\n"
        "ENTRY %m (p: f32[64,128]) -> f32[16,128] {\n"
        "  %p = f32[64,128]{1,0} parameter(0)\n"
        "  ROOT %x = f32[16,128]{1,0} fusion(%p), kind=kCustom, calls=%f\n"
        "}\n"
    )
    event = collectives.find_event(module, "m", module.root("m"), 4)
    assert (event.role, event.collective.kind) == ("sync", "reduce-scatter")
    assert event.collective.num_bytes == 64 * 128 * 4
