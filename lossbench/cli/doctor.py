"""`lossbench doctor`: what is installed, what the machine has, what would be slow here, and what is broken."""

from typing import TYPE_CHECKING

import typer

from lossbench.cli.options import Json

if TYPE_CHECKING:
    from lossbench.cli.diagnosis import Machine


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(json: Json = False) -> None:
    """Show versions, device, threads, memory, cache and extras; what would be slow here and why; what is broken.

    Exit code 1 if something is broken.

    With --json: {versions: {NAME: version}, extras: {NAME: installed}, cache: {folder, stores, size, free, file_system,
    writable}, memory: {total, available}, cores, cores_allowed, load, threads, gpu, gpu_memory, cuda, nvidia_driver,
    simd, compiled_at_every_start, environment: {VARIABLE: value}, torch_error, slow: [why], broken: [what]}; sizes are
    bytes.
    """
    from dataclasses import asdict

    from lossbench.cli import console
    from lossbench.cli.diagnosis import broken_here, examined, slow_here

    with console.document(json) as write:
        found = examined()
        slow, broken = list(slow_here(found)), list(broken_here(found))
        if not json:
            _show(found, slow, broken)
        write({**asdict(found), "memory": found.memory._asdict(), "slow": slow, "broken": broken})
    if broken:
        raise typer.Exit(1)


def _show(found: "Machine", slow: list[str], broken: list[str]) -> None:
    from lossbench.cli import console
    from lossbench.cli.diagnosis import size_text

    console.listing("versions", [(name, [known or "not installed"]) for name, known in found.versions.items()])
    device = f"{found.gpu}, {size_text(found.gpu_memory)}, CUDA {found.cuda}" if found.gpu else "CPU alone"
    limited = "" if found.cores_allowed is None else f", of which this container may use {found.cores_allowed:g}"
    threads = "unknown" if found.threads is None else str(found.threads)
    machine = [
        ("device", [device]),
        ("cores", [f"{found.cores}{limited}; torch's threads: {threads}"]),
        ("memory", [f"{size_text(found.memory.available)} free of {size_text(found.memory.total)}"]),
        *((name, [value]) for name, value in found.environment.items()),
    ]
    console.listing("machine", machine)
    disk = f" ({found.cache.file_system})" if found.cache.file_system else ""
    count = f"{found.cache.stores} store{'s' * (found.cache.stores != 1)}, {size_text(found.cache.size)}"
    stores = f"{count}; {size_text(found.cache.free)} free on its disk{disk}"
    console.listing("cache", [(found.cache.folder, [stores])])
    if found.extras:
        cures = {name: f"not installed: pip install 'lossbench[{name}]'" for name in found.extras}
        extras = [(name, ["installed" if there else cures[name]]) for name, there in found.extras.items()]
        console.listing("extras", extras)
    for title, lines in (("slow here", slow), ("broken", broken)):
        for line in lines:
            console.say(f"{title}: {line}")
    if not slow and not broken:
        console.say("nothing is broken, and nothing is slow here that could be faster")
