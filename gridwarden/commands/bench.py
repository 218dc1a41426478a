"""`gridwarden bench NAME`"""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Annotated

import typer


def bench(
    name: Annotated[str, typer.Argument(help="Which measurement; see docs/benchmarks.md.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to FILE.")] = None,
) -> None:
    """Measure ceiling, peer and ours interleaved in one run, and print them with their ratios."""
    import benchmarks

    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))
    if name not in known:
        print(f"no benchmark {name!r}; there are: {', '.join(known)}")
        raise typer.Exit(2)
    results = importlib.import_module(f"benchmarks.{name}").measure()
    for result in results:
        print(
            f"{result['name']}: ours {result['ours']:,.0f} {result['unit']}"
            f" · peer {result['peer']:,.0f} ({result['peer_name']}), ours/peer {result['ratio_peer']:.2f}"
            f" · ceiling {result['ceiling']:,.0f} ({result['ceiling_name']}), ours/ceiling {result['ratio_ceiling']:.2f}"
        )
    if json_file is not None:
        json_file.write_text(
            json.dumps(results[0] if len(results) == 1 else results, indent=2, ensure_ascii=False) + "\n"
        )
