"""Joining a Ray cluster, or starting one here, and seeing early that it can do the runs."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import lossbench
from lossbench.benchmark.engines import ray_bootstrap
from lossbench.benchmark.engines.ray_bootstrap import Code, Facts, digest_of, files_of
from lossbench.benchmark.engines.ray_guard import loss_told
from lossbench.config import Config
from lossbench.errors import CONTINUE, InputError
from lossbench.utils.device import device_of
from lossbench.utils.machine import lossbench_version
from lossbench.utils.owner import Owner
from lossbench.utils.text import clipped

PATIENCE = 15.0  # seconds to wait for a cluster's head
_LOOKING = 60.0  # seconds for all nodes to answer: each starts a process
_STORE = 256 * 2**20  # bytes of the object store of a cluster that is started here
_PREFIX, _OWNER = "lossbench-ray-", "owner.json"  # of temporary folders, and the file in each that names its process
_LONGEST_TEMPORARY = 30  # characters: sockets lie below, and their paths may have 107
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def refuse_without_ray() -> None:
    """Refuse to use Ray where it is not installed.

    Raises:
        InputError: it is not.
    """
    if find_spec("ray") is None:
        raise InputError("--engine ray needs the extra [ray]: pip install 'lossbench[ray]'")


@contextmanager
def joined(config: Config) -> Iterator[Any]:
    """Yield Ray's module, connected to the cluster that the settings name, or to one started here.

    A connection that the caller's script has made already is used, and kept.

    Raises:
        InputError: no cluster answers, or it has another version of Ray or Python.
    """
    refuse_without_ray()
    connected = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    if config.ray_address is not None and not connected:
        _refuse_dead(config.ray_address)
    with _environment(private=config.ray_address is None):
        import ray

        with loss_told(f"the Ray cluster{f' at {config.ray_address}' if config.ray_address else ''}"):
            if connected:
                yield ray
            else:
                yield from _connected(ray, config)


def _connected(ray: Any, config: Config) -> Iterator[Any]:
    with _temporary_folder() as folder:
        try:
            with _signals_kept():
                if config.ray_address is None:
                    _start(ray, config, folder)
                else:
                    _join(ray, config.ray_address)
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _environment(*, private: bool) -> Iterator[None]:
    """Set what Ray reads: it sends no statistics, and a private cluster has a token that only this process knows."""
    wanted = dict(_QUIET)
    if private and "RAY_AUTH_MODE" not in os.environ:  # otherwise Ray keeps a token in the user's home
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _start(ray: Any, config: Config, folder: str | None) -> None:
    threads = config.threads or max(1, torch.get_num_threads() // config.jobs)
    room = config.jobs * threads
    own = {"_temp_dir": folder} if folder else {}
    try:
        ray.init(address="local", num_cpus=room, object_store_memory=_STORE, include_dashboard=False, **_SILENT, **own)
    except Exception as error:  # Ray raises what its parts raise
        raise InputError(f"no Ray cluster can be started here: {_line(error)}; give --ray-address") from error


_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, **_SILENT)
    except Exception as error:  # likewise
        raise InputError(
            f"--ray-address {address}: this machine cannot join that cluster ({_line(error)}); it must be one of its "
            "nodes: ray start --address HOST:PORT"
        ) from error


def _refuse_dead(address: str) -> None:
    """Refuse an address where no cluster answers in time: Ray itself would try for minutes.

    Raises:
        InputError: it is no address, none answers, or it is of another version of Ray.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(f"--ray-address '{clipped(address)}' is no HOST:PORT; give that of the head, or auto")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        except OSError as error:
            raise InputError(
                f"--ray-address {address}: nothing answers there ({error.strerror or error}); "
                "start its head with: ray start --head"
            ) from error
    words = ["health-check", *([] if address == "auto" else ["--address", address])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        if b"AuthToken" in (error.stderr or b""):
            raise _wrong_token(address) from None
        raise InputError(
            f"--ray-address {address}: what answers there is no Ray cluster, or a dead one ({PATIENCE:.0f} s); give "
            "HOST:PORT of the head that ray start --head printed"
        ) from None
    if done.returncode and address == "auto" and "any running Ray instance" in done.stderr:
        raise InputError(
            "--ray-address auto: no Ray cluster runs here; start one with: ray start --head, or give HOST:PORT"
        )
    if done.returncode:
        if any(word in done.stderr + done.stdout for word in ("AuthToken", "authentication_token")):  # wrong, or none
            raise _wrong_token(address)
        said = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()[-1]
        raise InputError(f"--ray-address {address}: the cluster cannot be used: {clipped(said, 300)}")


def _wrong_token(address: str) -> InputError:
    return InputError(
        f"--ray-address {address}: that cluster asks for its token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH "
        "where the token is not in ~/.ray/auth_token; or RAY_AUTH_MODE=disabled if it has none"
    )


@contextmanager
def _temporary_folder() -> Iterator[str | None]:
    """Yield a folder for the sockets and logs of a cluster, deleted at the end; None where its path would be long."""
    if len(tempfile.gettempdir()) > _LONGEST_TEMPORARY:
        yield None
        return
    _sweep()
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    try:
        Path(folder, _OWNER).write_text(json.dumps(asdict(Owner.this_process())), encoding="utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Delete the folders of processes that were killed, or stopped again while they deleted theirs."""
    for file in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
        with suppress(OSError, ValueError, TypeError):  # another user's, or another program's
            if Owner(**json.loads(file.read_text(encoding="utf-8"))).is_dead():
                shutil.rmtree(file.parent, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Give Ctrl-C and SIGTERM back to their handlers at the end: `ray.init` replaces them by some that exit at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def device_on(ray: Any, config: Config) -> torch.device:
    """Return what runs on the cluster compute on.

    Raises:
        InputError: it has no GPU, or one is named.
    """
    name, gpus = config.device, ray.cluster_resources().get("GPU", 0)
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if name.startswith("cuda:"):
        raise InputError(f"--device {name}: Ray chooses the GPU of each run; use cuda")
    if name != "cuda":
        return device_of(name)
    if not gpus:
        raise InputError("--device cuda: no node of the Ray cluster has a GPU; use cpu, or add such a node")
    return torch.device("cuda")


def wanted(config: Config, device: torch.device, threads: int) -> dict[str, float]:
    """Return the resources that each run asks for; on a GPU one core, unless ``--threads`` says more."""
    if device.type == "cpu":
        return {"CPU": threads}
    return {"CPU": config.threads or 1, "GPU": 1 if config.gpus_per_run is None else config.gpus_per_run}


def room(ray: Any, need: dict[str, float]) -> int:
    """Return how many runs the cluster can do at a time.

    Raises:
        InputError: no node is large enough for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = sum(_places(node, need) for node in nodes)
    if places == 0:
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in need}
        lacking = next((name for name in need if most[name] < need[name]), "CPU")
        option = "--threads" if lacking == "CPU" else "--gpus-per-run"
        if not most[lacking]:
            raise InputError(
                f"no node of the cluster has a {lacking}; add one (ray start --address HOST:PORT); then {CONTINUE}"
            )
        raise InputError(
            f"each run asks for {need[lacking]:g} {lacking}s ({option}), and no node of the Ray cluster has more than "
            f"{most[lacking]:g}; give a lower {option}, or add a larger node; then {CONTINUE}"
        )
    return places


def _places(resources: dict[str, float], need: dict[str, float]) -> int:
    return int(min(resources.get(name, 0) / amount + 1e-6 for name, amount in need.items()))


def looked_at(ray: Any, need: dict[str, float], token: Path) -> list[Facts]:
    """Return what each node with room for a run has, and whether it sees the file `token`.

    Raises:
        InputError: a node does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(ray_bootstrap)
    look = ray.remote(ray_bootstrap.facts)
    asked = {
        look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(token)): node["NodeManagerHostname"]
        for node in ray.nodes()
        if node["Alive"] and _places(node["Resources"], need)
    }
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_LOOKING)
    if silent:
        hosts = ", ".join(asked[one] for one in silent)
        raise InputError(f"nodes of the Ray cluster do not answer within {_LOOKING:.0f} s: {hosts}; {CONTINUE}")
    found = []
    for one in ready:
        try:
            found.append(ray.get(one))
        except ray.exceptions.RayError as error:
            raise InputError(f"node {asked[one]} of the Ray cluster failed: {_line(error)}; {CONTINUE}") from error
    return found


def refuse_misfits(nodes: Sequence[Facts], ours: Facts) -> None:
    """Refuse nodes with another Python, or with other versions of packages that decide what comes out.

    Raises:
        InputError: there is one; the line names it, what it has and what it needs.
    """
    for node in nodes:
        where = f"node {node.host} of the Ray cluster has"
        if node.python != ours.python:
            raise InputError(f"{where} Python {node.python}, this machine {ours.python}; use the same everywhere")
        for name, version in ours.packages.items():
            theirs = node.packages[name]
            if theirs != version:
                cure = f"pip install {name}=={version}" if version else f"pip uninstall {name}"
                raise InputError(
                    f"{where} {_having(name, theirs)}, this machine {_having(name, version)}, and figures depend on "
                    f"it; run there: {cure}"
                )


def _having(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else f"no {name}"


def our_code() -> Code:
    """Return the lossbench that this process runs."""
    files = files_of(Path(lossbench.__file__).parent)
    return Code(lossbench_version(), digest_of(files), files)


def pickled(ray: Any, value: Any) -> bytes:
    """Return a value of lossbench's classes as bytes, which pass through a node that cannot import them yet."""
    return bytes(ray.cloudpickle.dumps(value))


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return clipped(lines[0] if lines else type(error).__name__, 300)


def explained(error: BaseException) -> str:
    """Return what a failure of Ray's means, in one line."""
    name, text = type(error).__name__, str(error)
    if "ObjectStoreFull" in name + text or "OutOfDisk" in name + text or "object store is full" in text:
        return (
            "the object store of the Ray cluster is full; free it, give it more memory (ray start "
            f"--object-store-memory), or keep data and results on a disk that all nodes share; then {CONTINUE}"
        )
    cause = getattr(error, "cause", None) or error  # of an error in a task, whose own text is a traceback
    return f"the Ray cluster failed: {type(cause).__name__}: {_line(cause)}; {CONTINUE}"
