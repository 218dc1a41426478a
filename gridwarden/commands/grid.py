"""`gridwarden grid …`"""

from pathlib import Path
from typing import Annotated

import typer

from grid.coordinates import to_cgcs2000
from grid.locate import Locator
from grid.model import Level
from gridwarden.session import open_session

app = typer.Typer(no_args_is_help=True)


@app.command("import")
def import_grid(
    file: Annotated[Path, typer.Argument(exists=True, help="GeoJSON, GeoPackage or Shapefile.")],
    level: Annotated[Level, typer.Option(help="What its features are.")],
    crs: Annotated[str | None, typer.Option(help="EPSG:<n>, gcj02 or bd09; default: what the file says.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend broken outlines, and say what was changed.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put them in place of what this level has now.")] = False,
) -> None:
    """Import areas, cells, components or background features: all of them or none."""
    from grid.importing import import_file

    with open_session() as session:
        result = import_file(
            session.connection,
            file,
            level=level,
            crs=crs,
            repair=repair,
            replace_level=replace,
            cell_code_digits=session.settings.city.cell_code_digits,
            now=session.now,
        )
    print(result)


@app.command()
def locate(
    lon: Annotated[float, typer.Argument()],
    lat: Annotated[float, typer.Argument()],
    crs: Annotated[str, typer.Option(help="EPSG:<n>, gcj02 or bd09.")] = "EPSG:4490",
) -> None:
    """Cell, responsibility grid, community and street of a point."""
    with open_session() as session:
        place = Locator.load(session.connection).locate(*to_cgcs2000(lon, lat, crs))
    if place is None:
        print("in no cell")
        raise typer.Exit(1)
    print(f"cell       {place.cell_code}")
    print(f"grid       {place.grid_code} {place.grid_name}")
    print(f"community  {place.community_code} {place.community_name}")
    print(f"street     {place.street_code} {place.street_name}")
