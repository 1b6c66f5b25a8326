"""A small music store as a SQLite file: what the demo shows where no database is given to it.

Tables and columns are those of the well-known Chinook sample, as far as the demo needs them; the content is
made here, the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SCHEMA: Final = """
CREATE TABLE Artist (ArtistId INTEGER PRIMARY KEY, Name TEXT NOT NULL);
CREATE TABLE Genre (GenreId INTEGER PRIMARY KEY, Name TEXT NOT NULL);
CREATE TABLE Album (
    AlbumId INTEGER PRIMARY KEY, Title TEXT NOT NULL, ArtistId INTEGER NOT NULL REFERENCES Artist);
CREATE TABLE Track (
    TrackId INTEGER PRIMARY KEY, Name TEXT NOT NULL, AlbumId INTEGER REFERENCES Album,
    GenreId INTEGER REFERENCES Genre, Milliseconds INTEGER NOT NULL, UnitPrice NUMERIC(10,2) NOT NULL);
CREATE TABLE Customer (CustomerId INTEGER PRIMARY KEY, FirstName TEXT, LastName TEXT, Email TEXT NOT NULL);
CREATE TABLE Invoice (
    InvoiceId INTEGER PRIMARY KEY, CustomerId INTEGER NOT NULL REFERENCES Customer,
    InvoiceDate TEXT NOT NULL, Total NUMERIC(10,2) NOT NULL);
CREATE TABLE InvoiceLine (
    InvoiceLineId INTEGER PRIMARY KEY, InvoiceId INTEGER NOT NULL REFERENCES Invoice,
    TrackId INTEGER NOT NULL REFERENCES Track, UnitPrice NUMERIC(10,2) NOT NULL, Quantity INTEGER NOT NULL);
CREATE TABLE Playlist (PlaylistId INTEGER PRIMARY KEY, Name TEXT NOT NULL);
CREATE TABLE PlaylistTrack (
    PlaylistId INTEGER NOT NULL REFERENCES Playlist, TrackId INTEGER NOT NULL REFERENCES Track,
    PRIMARY KEY (PlaylistId, TrackId));
CREATE INDEX TracksOfAlbum ON Track (AlbumId);
CREATE INDEX LinesOfInvoice ON InvoiceLine (InvoiceId);
"""

_GENRES: Final = ("Rock", "Jazz", "Folk", "Chamber music", "Electronic", "Blues", "Choir", "Film")
_FIRST: Final = (
    "Amber",
    "Broken",
    "Copper",
    "Distant",
    "Early",
    "Frozen",
    "Golden",
    "Hollow",
    "Inner",
    "Quiet",
)
_SECOND: Final = ("Rivers", "Lanterns", "Sparrows", "Engines", "Harbours", "Letters", "Orchards", "Signals")
_THIRD: Final = ("at Dawn", "in Winter", "of Home", "Returning", "by the Sea", "Unfolding", "Below")
_PEOPLE: Final = ("Ada", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hana", "Ivo", "Jun", "Kofi")
_FAMILIES: Final = ("Almeida", "Berg", "Castellano", "Dvořák", "Eriksen", "Fujita", "Grant", "Haddad")
_ARTISTS, _ALBUMS, _TRACKS, _CUSTOMERS, _INVOICES, _LISTS = 120, 320, 3200, 60, 400, 12


def write(path: Path) -> None:
    """Write the store to `path`, which must not exist yet."""
    import apsw

    connection = apsw.Connection(str(path))
    with connection:
        connection.execute(_SCHEMA)
        connection.executemany("INSERT INTO Genre VALUES (?, ?)", enumerate(_GENRES, 1))
        connection.executemany(
            "INSERT INTO Artist VALUES (?, ?)",
            ((i, f"The {_title(i * 7)[0]}") for i in range(1, _ARTISTS + 1)),
        )
        connection.executemany(
            "INSERT INTO Album VALUES (?, ?, ?)",
            ((i, " ".join(_title(i * 11)), i * 13 % _ARTISTS + 1) for i in range(1, _ALBUMS + 1)),
        )
        connection.executemany("INSERT INTO Track VALUES (?, ?, ?, ?, ?, ?)", _tracks())
        connection.executemany("INSERT INTO Customer VALUES (?, ?, ?, ?)", _customers())
        connection.executemany(
            "INSERT INTO Invoice VALUES (?, ?, date('2024-01-01', ? || ' days'), 0)",
            ((i, i * 17 % _CUSTOMERS + 1, i * 2) for i in range(1, _INVOICES + 1)),
        )
        connection.executemany(
            "INSERT INTO InvoiceLine SELECT ?, ?, TrackId, UnitPrice, 1 FROM Track WHERE TrackId = ?",
            _lines(),
        )
        connection.execute(
            "UPDATE Invoice SET Total = (SELECT round(sum(UnitPrice * Quantity), 2) FROM InvoiceLine AS line"
            " WHERE line.InvoiceId = Invoice.InvoiceId)"
        )
        connection.executemany(
            "INSERT INTO Playlist VALUES (?, ?)", ((i, f"{_GENRES[i % 8]} {i}") for i in range(1, _LISTS + 1))
        )
        connection.executemany(
            "INSERT INTO PlaylistTrack VALUES (?, ?)",
            ((i, t) for i in range(1, _LISTS + 1) for t in range(i, _TRACKS + 1, i + 3)),
        )
    connection.close()


def _title(number: int) -> tuple[str, str]:
    first, second = _FIRST[number % 10], _SECOND[number // 10 % 8]
    return f"{first} {second}", _THIRD[number // 80 % 7]


def _tracks() -> Iterator[tuple[int, str, int, int, int, float]]:
    for i in range(1, _TRACKS + 1):
        album = (i - 1) * _ALBUMS // _TRACKS + 1
        price = 1.99 if i % 16 == 0 else 0.99
        yield i, " ".join(_title(i * 23)), album, album % len(_GENRES) + 1, 90_000 + i * 7919 % 400_000, price


def _customers() -> Iterator[tuple[int, str, str, str]]:
    for i in range(1, _CUSTOMERS + 1):
        first, last = _PEOPLE[i % 11], _FAMILIES[i % 8]
        yield i, first, last, f"customer{i}@example.org"


def _lines() -> Iterator[tuple[int, int, int]]:
    number = 0
    for invoice in range(1, _INVOICES + 1):
        for line in range(invoice % 9 + 1):
            number += 1
            yield number, invoice, (invoice * 37 + line * 101) % _TRACKS + 1
