"""A user's own network as a plugin file: read without executing it, and built once ``--backbone`` names it."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lossbench.errors import InputError
from lossbench.utils.plugin_file import executed, public_classes, read_source, refuse_name
from lossbench.utils.text import described

if TYPE_CHECKING:
    from torch import nn

IMAGE_SIZE, EMBEDDING_DIM, LR, DROPOUT = 112, 512, 1e-3, 0.2  # where the file declares nothing else
OPTIONAL = ("image_size", "dropout")
RULE = "whose __init__ takes embedding_dim and, where it uses them, image_size and dropout"


class NetworkFile(NamedTuple):
    """A network's file, read but not executed: its class, the settings it takes, and the defaults that suit it.

    `dropout` is None where it takes none.
    """

    path: Path
    cls: str
    takes: frozenset[str]
    image_size: int
    embedding_dim: int
    lr: float
    dropout: float | None

    @property
    def name(self) -> str:
        """What the network is called: the file's stem."""
        return self.path.stem


def read_network(path: Path) -> NetworkFile:
    """Read a network's class, settings and defaults from its source.

    The network is the one public class whose ``__init__`` takes `embedding_dim`; further classes may be its parts. The
    defaults stand in the signature, and that of the peak learning rate in the class body: ``lr = 3e-3``.

    Raises:
        InputError: no readable Python file, no such class or several, or a class that cannot be built from a backbone's
            settings.
    """
    tree = read_source(path, "--backbone")
    refuse_name(path.stem, "network")
    found = [(one, init) for one in public_classes(tree) for init in _inits(one) if "embedding_dim" in _names(init)]
    if len(found) != 1:
        defines = ", ".join(one.name for one, _ in found) or "none"
        raise InputError(f"{path} must define exactly one public network, a class {RULE}; it defines {defines}")
    (node, init), where = found[0], f"{path}: {found[0][0].name}"
    if "num_classes" in _names(init):
        raise InputError(
            f"{where} takes num_classes, as a loss does; name a loss in --losses, or give a network's file"
        )
    if unknown := [name for name in _required(init) if name not in ("embedding_dim", *OPTIONAL)]:
        raise InputError(f"{where} needs a value for '{unknown[0]}', which no setting gives; give it a default")
    values = _defaults(init)
    return NetworkFile(
        path,
        node.name,
        frozenset(_names(init)) & {"embedding_dim", *OPTIONAL},
        _whole(values.get("image_size"), IMAGE_SIZE, f"{where}'s image_size"),
        _whole(values.get("embedding_dim"), EMBEDDING_DIM, f"{where}'s embedding_dim"),
        _number(_assigned(node, "lr"), LR, 10, f"{where}'s lr"),
        _number(values.get("dropout"), DROPOUT, 0.95, f"{where}'s dropout") if "dropout" in _names(init) else None,
    )


def build_network(file: NetworkFile, *, embedding_dim: int, image_size: int, dropout: float) -> "nn.Module":
    """Execute a network's file and build it, its weights drawn from torch's global generator.

    Raises:
        InputError: the file or the class raises, or the class is no module.
    """
    from torch import nn

    settings: dict[str, Any] = {"embedding_dim": embedding_dim, "image_size": image_size, "dropout": dropout}
    given = {name: value for name, value in settings.items() if name in file.takes}
    cls = getattr(executed(file.path, file.name), file.cls, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"{file.path}: {file.cls} is no network; derive it from torch.nn.Module")
    try:
        net = cls(**given)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a constructor may raise anything, and that is one line
        shown = ", ".join(f"{name}={value:g}" for name, value in given.items())
        raise InputError(f"{file.path}: {file.cls}({shown}) cannot be built: {described(error)}") from error
    return net


def refuse_misfit(file: NetworkFile, net: "nn.Module", *, embedding_dim: int, image_size: int) -> None:
    """Refuse a network that does not map images to embeddings of the length asked for; this is one step forward.

    Args:
        file: where it comes from.
        net: in training mode; its normalisations see the images.
        embedding_dim: the length.
        image_size: the side of the images.

    Raises:
        InputError: one line with what it returns, or raises, instead.
    """
    import torch

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            out = net(torch.rand(2, 3, image_size, image_size).to(memory_format=torch.channels_last))
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{file.path}: {file.cls} fails on images [2, 3, {image_size}, {image_size}]: {described(error)}"
            ) from error
    if fault := output_fault(out, 2, embedding_dim):
        raise InputError(f"{file.path}: {file.cls} must return embeddings [B, {embedding_dim}], not {fault}")


def output_fault(out: object, images: int, embedding_dim: int) -> str:
    """Return what a network gives instead of float embeddings [images, embedding_dim]; empty where it does not."""
    from torch import Tensor

    if not isinstance(out, Tensor):
        return f"a {type(out).__name__}"
    if out.shape != (images, embedding_dim):
        return f"{list(out.shape)} for {images} image{'s' * (images > 1)}"
    return "" if out.is_floating_point() else f"{out.dtype}"


def _inits(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"][-1:]


def _positional(init: ast.FunctionDef) -> list[ast.arg]:
    return [*init.args.posonlyargs, *init.args.args][1:]


def _names(init: ast.FunctionDef) -> list[str]:
    """Return the arguments that can be given by name, without self."""
    return [one.arg for one in [*init.args.args[1:], *init.args.kwonlyargs]]


def _defaults(init: ast.FunctionDef) -> dict[str, ast.expr]:
    positional = _positional(init)
    last = positional[len(positional) - len(init.args.defaults) :]
    by_keyword = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    found = {one.arg: value for one, value in zip(last, init.args.defaults, strict=False)}
    return found | {one.arg: value for one, value in by_keyword if value is not None}


def _required(init: ast.FunctionDef) -> list[str]:
    return [one.arg for one in [*_positional(init), *init.args.kwonlyargs] if one.arg not in _defaults(init)]


def _whole(value: ast.expr | None, usual: int, what: str) -> int:
    if value is None:
        return usual
    found = _literal(value)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(f"{what} is {ast.unparse(value)} by default; write a whole number there, such as {usual}")
    return found


def _number(value: ast.expr | None, usual: float, most: float, what: str) -> float:
    if value is None:
        return usual
    found = _literal(value)
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= most:
        raise InputError(f"{what} is {ast.unparse(value)} by default; write a number up to {most:g} there")
    return float(found)


def _assigned(node: ast.ClassDef, name: str) -> ast.expr | None:
    """Return what a class body assigns to a name."""
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        if isinstance(one, ast.Assign | ast.AnnAssign) and any(ast.unparse(target) == name for target in targets):
            return one.value
    return None


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None
