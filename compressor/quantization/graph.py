"""A network as a graph of operators, in which activations have names that last."""

import operator
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from compressor.blame import cause
from compressor.layers import own_names
from contract.failures import UnfitModel

aten = torch.ops.aten

#: Operators that overwrite their first input, and those that give a new tensor.
_OUT_OF_PLACE = {
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.relu_.default: aten.relu.default,
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.relu6_.default: aten.relu6.default,
    aten.clamp_.default: aten.clamp.default,
    aten.leaky_relu_.default: aten.leaky_relu.default,
    aten.elu_.default: aten.elu.default,
    aten.silu_.default: aten.silu.default,
    aten.sigmoid_.default: aten.sigmoid.default,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
}
#: Operators that multiply their input with a gate made of it.
_GATED = {aten.silu.default: aten.sigmoid.default, aten.hardswish.default: aten.hardsigmoid.default}
_IDENTITIES = {aten.dropout.default, aten.feature_dropout.default, aten.alias.default}


def capture(module: nn.Module, input_shape: tuple[int, ...]) -> GraphModule:
    """The forward pass of `module` in eval mode, for batches of any size of inputs of `input_shape` (C, H, W).

    The graph shares its parameters with the module, and reads one that has several names under the first of them. It
    has no operator that overwrites an activation, and none that does something in training alone.
    """
    captured = exported(module, input_shape).module(check_guards=False)
    assert isinstance(captured, GraphModule)
    # Torch lets neither mode be set, but the graph has one only, and whoever runs a network sets eval mode first.
    for refusal in ("train", "eval"):
        vars(captured).pop(refusal, None)
    _name_once(captured, own_names(module))
    _write_anew(captured)
    _spell_out(captured)
    _drop_identities(captured)
    captured.recompile()
    return captured


def copied(module: GraphModule) -> GraphModule:
    """Another graph of the same operators over the same parameters."""
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    graph.set_codegen(module.graph._codegen)
    return GraphModule(module, graph)


def exported(module: nn.Module, input_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The program of `module` in eval mode, whose first dimension is free; raises `UnfitModel` where it has none."""
    # Torch takes sizes of 0 and 1 for constants, so the example is a batch of two.
    example = torch.zeros(2, *input_shape, device=_device(module))
    # Kernels of a GPU take so many images at once and no more, which torch then says of the batch.
    batch = torch.export.Dim("batch") if example.device.type == "cpu" else torch.export.Dim.DYNAMIC
    modes = {child: child.training for child in module.modules()}
    for child in modes:
        child.training = False
    try:
        with warnings.catch_warnings():
            # Recurrent layers keep their weights in a list of their own too, which says nothing that the graph needs.
            warnings.filterwarnings("ignore", message=r"The tensor attributes? .*_flat_weights", category=UserWarning)
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)
    # Torch loads the classes of these errors with its exporter, and python looks for them where there is an error.
    except (
        torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode,
        torch._subclasses.fake_tensor.DataDependentOutputException,
        torch._subclasses.fake_tensor.DynamicOutputShapeException,
    ) as error:
        told = "The network decides by the values of its inputs, and so cannot be traced"
        raise UnfitModel(f"{told}: {cause(error)}") from error
    except torch._dynamo.exc.TorchDynamoException as error:
        raise UnfitModel(_untraceable(error)) from error
    finally:
        for child, mode in modes.items():
            child.training = mode
    _write_plainly_anew(program.graph_module)
    return program


def _untraceable(error: Exception) -> str:
    violated = torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION
    if isinstance(error, torch._dynamo.exc.UserError) and error.error_type is violated:
        return (
            "The network takes batches of one size alone, and files are for any: somewhere it computes with the size "
            "of a batch as with a constant."
        )
    return f"The network cannot be traced: {cause(error)}"


def _write_plainly_anew(module: GraphModule) -> None:
    """Where nobody else sees what is overwritten, let a new tensor be made.

    It is the same, and Torch's decompositions take half the time: to some operators that overwrite, as a ReLU6's, they
    come in Python.
    """
    for node in module.graph.nodes:
        if node.target is aten.dropout_.default:
            # In eval mode it overwrites nothing.
            node.target = aten.dropout.default
        elif node.target in _OUT_OF_PLACE and _is_seen_by_one(node.args[0]):
            node.target = _OUT_OF_PLACE[node.target]
    module.recompile()


def _is_seen_by_one(made: Node) -> bool:
    """Whether an operator made a tensor of its own, no view of another, that one operator alone reads."""
    target = made.target
    if len(made.users) > 1 or not isinstance(target, torch._ops.OpOverload):
        return False
    return all(given.alias_info is None for given in target._schema.returns)


def _device(module: nn.Module) -> torch.device:
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def _name_once(module: GraphModule, names: Mapping[str, str]) -> None:
    """Let every parameter be read once, under the name by which masks, plans and reports know it."""
    first: dict[str, Node] = {}
    for node in [node for node in module.graph.nodes if node.op == "get_attr"]:
        node.target = names.get(node.target, node.target)
        if first.setdefault(node.target, node) is not node:
            node.replace_all_uses_with(first[node.target])
            module.graph.erase_node(node)


def _write_anew(module: GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target in _OUT_OF_PLACE:
            node.target = _OUT_OF_PLACE[node.target]
            overwritten = node.args[0]
            later = {user for user in overwritten.users if user > node}
            overwritten.replace_all_uses_with(node, delete_user_cb=later.__contains__)


def _spell_out(module: GraphModule) -> None:
    """Write x sigmoid(x) as the two operators that it is: a runtime has an integer kernel for each."""
    for node in list(module.graph.nodes):
        if node.target in _GATED:
            x = node.args[0]
            with module.graph.inserting_before(node):
                gate = module.graph.call_function(_GATED[node.target], (x,))
                product = module.graph.call_function(aten.mul.Tensor, (x, gate))
            gate.meta, product.meta = dict(node.meta), dict(node.meta)
            node.replace_all_uses_with(product)
            module.graph.erase_node(node)


def _drop_identities(module: GraphModule) -> None:
    for node in module.graph.nodes:
        if node.target in _IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def sites(module: GraphModule) -> dict[Node, str]:
    """A name for each place where an activation is made: module path, operator, and a number where they repeat.

    The names depend on the network alone, so that ranges measured once are found again after a rebuild.
    """
    seen: Counter[str] = Counter()
    names = {}
    for node in module.graph.nodes:
        if node.op in ("call_function", "placeholder"):
            name = _place(node)
            names[node] = f"{name}.{seen[name]}" if seen[name] else name
            seen[name] += 1
    return names


def _place(node: Node) -> str:
    if node.op == "placeholder":
        return "image"
    if node.target is operator.getitem:
        return f"{_place(node.all_input_nodes[0])}.part"
    stack = node.meta.get("nn_module_stack") or {}
    path = [path for path, _ in stack.values()][-1] if stack else ""
    kind = getattr(node.target, "overloadpacket", node.target)
    return f"{path}/{getattr(kind, '__name__', str(kind))}"


def parameter_name(node: object) -> str | None:
    """The name of the parameter that `node` reads, if it reads one."""
    return str(node.target) if isinstance(node, Node) and node.op == "get_attr" else None


def drop_unread(module: GraphModule) -> None:
    """Forget the parameters and buffers that the graph does not read, such as floats in whose place it reads codes."""
    read = {parameter_name(node) for node in module.graph.nodes}
    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name in [name for name, _ in tensors if name not in read]:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)


def tensor(module: GraphModule, node: object) -> Tensor | None:
    """The parameter or buffer that an argument reads; null where the argument is none."""
    name = parameter_name(node)
    if name is None:
        return None
    owner, _, attribute = name.rpartition(".")
    value = getattr(module.get_submodule(owner), attribute)
    assert isinstance(value, Tensor)
    return value


def constant(module: GraphModule, name: str, value: Tensor, *, before: Node) -> Node:
    """A node that reads `value`, which the graph keeps as a buffer of this name or one like it."""
    name = free = name.replace(".", "_")
    count = 0
    while hasattr(module, free):
        count += 1
        free = f"{name}_{count}"
    module.register_buffer(free, value)
    with module.graph.inserting_before(before):
        return module.graph.get_attr(free)


def only_user(node: Node) -> Node | None:
    """The one operator that reads this activation; null where there are more."""
    users: Iterator[Node] = iter(node.users)
    return next(users) if len(node.users) == 1 else None
