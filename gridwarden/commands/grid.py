"""`gridwarden grid …`"""

from dataclasses import replace as replaced
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from grid.coordinates import to_cgcs2000
from grid.locate import Locator
from grid.model import Level
from grid.surroundings import Surveyor
from gridwarden.session import open_session

app = typer.Typer(no_args_is_help=True)
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.command("import")
def import_grid(
    file: Annotated[Path, typer.Argument(exists=True, help="GeoJSON, GeoPackage, Shapefile, KML or CSV.")],
    level: Annotated[Level, typer.Option(help="What its features are.")],
    crs: Annotated[str | None, typer.Option(help="EPSG:<n>, gcj02 or bd09; default: what the file says.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend broken outlines, and say what was changed.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put them in place of what this level has now.")] = False,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=_DATES, help="From when it is valid; default: now.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Store nothing, but write FILE.html with a picture of every problem.")
    ] = None,
    accept: Annotated[
        Path | None, typer.Option(exists=True, help="With --repair: the report of this file, which you have looked at.")
    ] = None,
) -> None:
    """Import areas, cells, components or background features: all of them or none."""
    from grid.importing import import_file
    from grid.problem import ImportRefusedError
    from grid.reporting import shows, write_report

    with open_session() as session:
        zone = ZoneInfo(session.settings.city.timezone)
        options = {
            "level": level,
            "crs": crs,
            "repair": repair,
            "replace_level": replace,
            "cell_code_digits": session.settings.city.cell_code_digits,
            "valid_from": since.replace(tzinfo=zone) if since else None,
            "now": session.now,
        }
        if report is None and repair and not (accept and shows(accept, file, level=level, crs=crs)):
            print("先用 --report FILE.html 看过修复前后的图形，再加 --repair --accept FILE.html")
            print("look at the mended shapes first: --report FILE.html, then --repair --accept FILE.html")
            raise typer.Exit(1)
        if report is None:
            print(import_file(session.connection, file, **options))  # type: ignore[arg-type]
            return
        # Broken outlines are mended in the report, so that the shape before and after can be looked at.
        options |= {"repair": True, "check_only": True}
        try:
            result = import_file(session.connection, file, **options)  # type: ignore[arg-type]
        except ImportRefusedError as error:
            result = error.result
        write_report(session.connection, result, file, report, crs=crs)
    print(replaced(result, path=f"{result.path} (checked only)"))
    print(f"report: {report}")
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="What to write: .geojson, .gpkg, .shp, .kml or .csv.")],
    level: Annotated[Level, typer.Option(help="Which level.")],
    crs: Annotated[str | None, typer.Option(help="EPSG:<n>, gcj02 or bd09; default: CGCS2000.")] = None,
    at: Annotated[datetime | None, typer.Option(formats=_DATES, help="As it was then; default: as it is.")] = None,
) -> None:
    """Write a level to a file that `grid import` reads."""
    from grid.exporting import ExportError, export_file

    with open_session() as session:
        zone = ZoneInfo(session.settings.city.timezone)
        try:
            instant = at.replace(tzinfo=zone) if at else None
            written = export_file(session.connection, file, level=level, crs=crs, at=instant)
        except ExportError as error:
            print(error)
            raise typer.Exit(1) from error
    print(f"{file}: {written} rows ({level})")


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="File to write, for `grid import --level cell`.")],
    community: Annotated[str, typer.Option(help="Code of one community.")] = "",
    district: Annotated[str, typer.Option(help="Code of a district: all its communities.")] = "",
) -> None:
    """Divide communities into cells of about 100 m along roads, cutting no building, numbered by the standard."""
    from grid.generating import GenerateError, generate_file

    with open_session() as session:
        try:
            result = generate_file(
                session.connection,
                out,
                prefix=community or district,
                cell_code_digits=session.settings.city.cell_code_digits,
                metric_crs=session.settings.city.metric_crs,
            )
        except GenerateError as error:
            print(error)
            raise typer.Exit(1) from error
    print(result.describe(session.settings.city.language))


@app.command()
def locate(
    lon: Annotated[float, typer.Argument()],
    lat: Annotated[float, typer.Argument()],
    crs: Annotated[str, typer.Option(help="EPSG:<n>, gcj02 or bd09.")] = "EPSG:4490",
    at: Annotated[datetime | None, typer.Option(formats=_DATES, help="As it was then; default: as it is.")] = None,
) -> None:
    """Cell, responsibility grid, community, street, nearest component and address of a point."""
    with open_session() as session:
        zone = ZoneInfo(session.settings.city.timezone)
        instant = at.replace(tzinfo=zone) if at else None
        locator = Locator.load(session.connection, instant)
        found = Surveyor.load(session.connection, instant, locator).survey(*to_cgcs2000(lon, lat, crs))
        language = session.settings.city.language
    place = found.place
    if place is None:
        print("in no cell")
        raise typer.Exit(1)
    print(f"cell       {place.cell_code}")
    print(f"grid       {place.grid_code} {place.grid_name}")
    print(f"community  {place.community_code} {place.community_name}")
    print(f"street     {place.street_code} {place.street_name}")
    print(f"district   {place.district_code} {place.district_name}")
    if found.component:
        each = found.component.component
        print(f"component  {each.code} {each.name} ({found.component.distance_m:.1f} m)")
    print(f"address    {found.address(language)}")


@app.command()
def duty_export(file: Annotated[Path, typer.Argument(help="CSV to write.")]) -> None:
    """Write the rules that say who is competent for what."""
    from grid.duty_store import export_duty_rules

    with open_session() as session:
        print(f"{file}: {export_duty_rules(session.connection, file)} rules")


@app.command()
def duty_import(file: Annotated[Path, typer.Argument(exists=True, help="CSV to read.")]) -> None:
    """Put the rules of a CSV in the place of all that there are: all of them or none."""
    from grid.duty_store import DutyRefusedError, import_duty_rules

    with open_session() as session:
        try:
            count = import_duty_rules(session.connection, file, session.now, "command line")
        except DutyRefusedError as error:
            print(error)
            raise typer.Exit(1) from error
    print(f"{file}: {count} rules")
