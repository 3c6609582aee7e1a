"""The shape of the package: layers, documentation, and what is never used."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skflowfm

PACKAGE = Path(skflowfm.__file__).parent
MAX_LINES = 450

# The layer of every module: imports go to the same layer or below.
LAYERS = {
    "alignment": 0,
    "flow_matching": 0,
    "ode": 0,
    "nets": 1,
    "_amount": 2,
    "_budget": 2,
    "_building": 2,
    "_checks": 2,
    "_columns": 2,
    "_conditions": 2,
    "_density": 2,
    "_device": 2,
    "_draws": 2,
    "_finetuning": 2,
    "_generation": 2,
    "_health": 2,
    "_imputation": 2,
    "_own_modules": 2,
    "_positives": 2,
    "_resampling": 2,
    "_sizes": 2,
    "_standing": 2,
    "_steps": 2,
    "_training": 2,
    "_validation": 2,
    "_wide": 2,
    "_augmentation": 3,
    "_classifier": 3,
    "_continuing": 3,
    "_onnx": 3,
    "_pretrained": 3,
    "_regressor": 3,
    "_sampler": 3,
    "_sampling": 3,
    "_stream": 3,
    "_transformer": 3,
    "imblearn": 3,
    "persistence": 3,
}
LEAVES = {"datasets", "metrics", "plotting"}
SHARED = "_checks"  # by the leaves, too: it needs nothing of the package, and no torch

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def module_name(path):
    """Return the dotted name below skflowfm; "" is the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


NAMES = {module_name(path): path for path in FILES}


def family(name):
    return name.split(".")[0]


def absolute(node, path):
    """Return the dotted module that an ``from ... import`` refers to."""
    if not node.level:
        return node.module
    package = ("skflowfm", *path.relative_to(PACKAGE).parent.parts)
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports_of(path):
    """Yield every module imported anywhere in a file, by its dotted name."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node, path)
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix("skflowfm.")
                is_module = module.startswith("skflowfm") and inner in NAMES
                yield f"skflowfm.{inner}" if is_module else module


def internal_imports(path):
    """Return names below skflowfm of the modules of ours that a file imports."""
    names = {name for name in imports_of(path) if family(name) == "skflowfm"}
    return {name.removeprefix("skflowfm").removeprefix(".") for name in names}


def of_layer(*layers):
    return [
        pytest.param(path, id=name)
        for name, path in NAMES.items()
        if LAYERS.get(family(name)) in layers
    ]


everywhere = pytest.mark.parametrize(
    "path", [pytest.param(path, id=name or "skflowfm") for name, path in NAMES.items()]
)


# ------------------------------------------------------------------ layers
def test_every_module_has_its_place():
    unknown = {family(name) for name in NAMES} - LAYERS.keys() - LEAVES - {""}
    assert not unknown, f"give {unknown} a layer, or make them leaves, in this file"


@pytest.mark.parametrize("path", of_layer(0, 1, 2, 3))
def test_imports_point_downwards(path):
    own = LAYERS[family(module_name(path))]
    for name in internal_imports(path):
        layer = LAYERS.get(family(name))
        assert layer is not None, f"{name or 'the package itself'} is above or a leaf"
        assert layer <= own, f"{name} is above"


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=name) for name, p in NAMES.items() if family(name) in LEAVES],
)
def test_leaves_stand_alone(path):
    allowed = LEAVES | {SHARED}
    assert not {name for name in internal_imports(path) if family(name) not in allowed}


def test_what_the_leaves_share_stands_alone():
    imported = set(imports_of(NAMES[SHARED]))
    assert not {name for name in imported if family(name) in ("skflowfm", "torch")}


def test_imports_have_no_cycles():
    graph = {name: internal_imports(path) for name, path in NAMES.items()}
    # A package imports its parts, which may import one another but not the package.
    tuple(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", of_layer(0, 1))
def test_the_method_and_the_nets_need_torch_only(path):
    outside = {family(name) for name in imports_of(path)} - {"skflowfm"}
    assert outside - set(sys.stdlib_module_names) <= {"torch"}


def test_nets_load_without_scikit_learn():
    """Behind an empty package, nets bring in none of what estimators are made of."""
    code = f"""
import sys, types
package = types.ModuleType("skflowfm")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["skflowfm"] = package
import skflowfm.alignment, skflowfm.flow_matching, skflowfm.nets, skflowfm.ode
import skflowfm.nets.density, skflowfm.nets.views
print(*sorted({{"sklearn", "skorch", "pandas", "scipy"}} & sys.modules.keys()))
print(skflowfm.nets.ConvEncoder.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["skflowfm.nets.encoder"]


# ------------------------------------------------------------------ what is not used
def calls(path):
    """Yield (called expression as text, call node) of every call in a file."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", of_layer(3))
def test_estimators_leave_training_and_devices_to_the_layers_below(path):
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for name, node in calls(path)
        if name.endswith((".backward", ".to", ".cuda")) or "optim" in name
    ]
    assert not found


@everywhere
def test_no_data_loader(path):
    assert "DataLoader" not in path.read_text()


RANDOM_FUNCTIONS = "rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson"
GLOBAL_CALLS = re.compile(
    r"torch\.(random\.)?(manual_seed|seed|fork_rng|set_rng_state|initial_seed)"
    r"|torch\.(rand_like|randn_like|randint_like)"
    r"|np\.random\.(?!default_rng|Generator|SeedSequence|Philox|RandomState)\w+"
    r"|random\.\w+"
    r"|torch\.set_num_threads"
)


@everywhere
def test_no_global_randomness(path):
    for name, node in calls(path):
        assert not GLOBAL_CALLS.fullmatch(name), f"line {node.lineno}: {name}"
        if re.fullmatch(rf"torch\.({RANDOM_FUNCTIONS})", name):
            given = {keyword.arg for keyword in node.keywords}
            assert "generator" in given, f"line {node.lineno}: {name}"
        if re.search(r"nn\.(\w*Dropout|init\.(?!zeros_|ones_|constant_))", name):
            given = {keyword.arg for keyword in node.keywords}
            assert "generator" in given, f"line {node.lineno}: {name}"


@everywhere
def test_no_printing(path):
    """But for the one line that ``verbose=1`` asks for."""
    printed = [node.lineno for name, node in calls(path) if name == "print"]
    assert len(printed) <= (module_name(path) == "_transformer")


# ------------------------------------------------------------------ documentation
def public_modules():
    names = [name for name in NAMES if not re.search(r"(^|\.)_", name)]
    return [importlib.import_module(f"skflowfm.{name}".rstrip(".")) for name in names]


def own_members(owner):
    """Yield (name, function or class) that ``owner`` itself defines."""
    for name, member in vars(owner).items():
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        if inspect.isfunction(member) or inspect.isclass(member):
            yield name, member


def documented_things(modules):
    """Return {dotted name: function or class} of modules, methods included."""
    things = {}
    for module in modules:
        exported = getattr(module, "__all__", ())
        for name, member in own_members(module):
            ours = member.__module__ == module.__name__
            if not (ours or name in exported):
                continue
            dotted = f"{member.__module__}.{name}"
            things[dotted] = member
            if inspect.isclass(member):
                for base in reversed(inspect.getmro(member)):  # and those of mixins
                    if base.__module__.startswith("skflowfm"):
                        methods = own_members(base)
                        things |= {f"{dotted}.{n}": m for n, m in methods}
    return things


def is_public(dotted):
    return not dotted.rpartition(".")[2].startswith("_")


PUBLIC = {n: m for n, m in documented_things(public_modules()).items() if is_public(n)}
EVERYTHING = documented_things(
    importlib.import_module(f"skflowfm.{name}".rstrip(".")) for name in NAMES
)
# Described by their class, as torch and scikit-learn have it.
BY_CLASS = {"forward", "reset_parameters"}


def test_public_names_are_found():
    """Else the tests below would test nothing."""
    assert "skflowfm.flow_matching.joint_loss" in PUBLIC
    assert "skflowfm._sampler.FlowFMSampler.sample" in PUBLIC
    assert "skflowfm.metrics._two_sample.c2st_auc" in PUBLIC
    assert "skflowfm._density.RepresentationDensity" in EVERYTHING


@pytest.mark.parametrize("dotted", sorted(PUBLIC))
def test_public_things_have_a_docstring(dotted):
    if dotted.rpartition(".")[2] not in BY_CLASS:
        doc = PUBLIC[dotted].__doc__
        assert doc
        summary = inspect.cleandoc(doc).splitlines()[0]
        assert summary.rstrip().endswith((".", ":")), "one line that is a sentence"


def signature_names(thing):
    parameters = inspect.signature(thing).parameters
    return [name for name in parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("dotted", sorted(PUBLIC))
def test_no_public_function_passes_keywords_through(dotted):
    if inspect.isclass(PUBLIC[dotted]) and "__init__" not in vars(PUBLIC[dotted]):
        return
    kinds = {p.kind for p in inspect.signature(PUBLIC[dotted]).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds


def documented_parameters(doc):
    """Return names in the Parameters section of a numpydoc text, None without one."""
    lines = inspect.cleandoc(doc).splitlines()
    if "Parameters" not in lines:
        return None
    names = []
    start = lines.index("Parameters") + 2
    for line, after in zip(lines[start:], [*lines[start + 1 :], ""], strict=True):
        if re.fullmatch("-{3,}", after):
            break
        if line and not line.startswith(" "):
            names += [name.strip(" *") for name in line.split(" :")[0].split(",")]
    return names


def test_documented_parameters_are_read():
    doc = """Sum up.

    Parameters
    ----------
    x, y : array of shape (n, 2) or \\
            (n,)
        Text, with a comma : and a colon.
    z
        As above.

    Returns
    -------
    total : float
    """
    assert documented_parameters(doc) == ["x", "y", "z"]
    assert documented_parameters("Nothing.") is None


def with_parameters():
    for dotted, thing in sorted(EVERYTHING.items()):
        doc = thing.__doc__
        if doc and documented_parameters(doc) is not None:
            yield pytest.param(thing, id=dotted)


@pytest.mark.parametrize("thing", list(with_parameters()))
def test_documented_parameters_are_those_of_the_signature(thing):
    documented = documented_parameters(thing.__doc__)
    assert sorted(documented) == sorted(signature_names(thing))


def exported_functions():
    """Names in an ``__all__`` and the public methods of classes there."""
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not callable(thing):
                continue
            yield pytest.param(thing, id=f"{module.__name__}.{name}")
            if inspect.isclass(thing):
                for n, method in own_members(thing):
                    if is_public(n) and n not in BY_CLASS:
                        yield pytest.param(method, id=f"{module.__name__}.{name}.{n}")


@pytest.mark.parametrize("thing", list(exported_functions()))
def test_exported_things_document_their_parameters(thing):
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        return
    doc = inspect.cleandoc(thing.__doc__).splitlines()
    # A dataclass documents its fields; one parameter may be part of the summary.
    heading = "Attributes" if dataclasses.is_dataclass(thing) else "Parameters"
    assert heading in doc or len(signature_names(thing)) <= 1


# ------------------------------------------------------------------ size
@everywhere
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES
