"""A demo district made from a seed: the eight streets of the former Xiacheng, with cells, roads, water and buildings.

`write_district(folder, seed)` writes what `gridwarden grid import` reads; the `District` it returns knows, without the
platform's help, which cell a position lies in, and where things can stand.
"""

from simulators.district.files import FILES, make_district, read_district, write_district
from simulators.district.model import Cell, District, Draw, Grid, Site, SiteKind, distance_m

__all__ = [
    "FILES",
    "Cell",
    "District",
    "Draw",
    "Grid",
    "Site",
    "SiteKind",
    "distance_m",
    "make_district",
    "read_district",
    "write_district",
]
