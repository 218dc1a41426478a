"""`gridwarden bench NAME`"""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    name: Annotated[str, typer.Argument(help="Which measurement; see docs/benchmarks.md.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to FILE.")] = None,
    minutes: Annotated[
        float, typer.Option(min=0, help="Of `vision`: instead watch so many cameras for so long, over real RTSP.")
    ] = 0.0,
    cameras: Annotated[int, typer.Option(min=1, max=64, help="Of `vision --minutes`: how many cameras.")] = 16,
) -> None:
    """Measure ceiling, peer and ours interleaved in one run, and print them with their ratios."""
    import benchmarks

    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    if name not in known:
        print(f"no benchmark {name!r}; there are: {', '.join(known)}")
        raise typer.Exit(2)
    if minutes and name != "vision":
        print("--minutes belongs to `bench vision`")
        raise typer.Exit(2)
    measure = importlib.import_module(f"benchmarks.{name}").measure
    results = measure(minutes=minutes, cameras=cameras) if minutes else measure()
    for result in results:
        print(_describe(result))
    if json_file is not None:
        json_file.write_text(
            json.dumps(results[0] if len(results) == 1 else results, indent=2, ensure_ascii=False) + "\n"
        )


def _describe(result: dict[str, Any]) -> str:
    """One line: ours, then what it is measured against with the ratios; what was left out is not in it."""
    line = f"{result['name']}: ours {result['ours']:,.6g} {result['unit']}"
    for against in ("peer", "ceiling"):
        if result[against] is not None:
            name, ratio = result[f"{against}_name"], result[f"ratio_{against}"]
            line += f" · {against} {result[against]:,.6g} ({name}), ours/{against} {ratio:.2f}"
    times = [f"{key[:3]} {result[key]:.1f} ms" for key in ("p50_ms", "p99_ms") if key in result]
    return " · ".join([line, *times])
