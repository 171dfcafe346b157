"""Reads text files: parsed by Arrow and Python inside `mapInArrow`, not by the engine's own
readers: those differ between engines in what they do with a broken line, and drop it or fail the
whole read. Every row of a text source is delivered as strings; typing is the silver table's work.

A file is read in blocks, so that memory does not grow with it; a file whose lines are its records is
also split, so that tasks share it, unless it is compressed. Belongs here: what CSV and JSON lines have
in common. Does not belong here: their grammars.
"""

from __future__ import annotations

import codecs
import gzip
import json
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from spark_jobs.batch.landing.deliveries import Delivery
from spark_jobs.batch.landing.rows import empty, schema, spread, summary
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Bytes read at once: few enough that a block is still in the cache when the next step looks at it.
BLOCK = 1 << 20
# Bytes of one task, where lines are records.
SPLIT = 64 << 20
# The longest record, so that a quote that is never closed does not take the rest of a file with it.
LONGEST = 64 << 20
# Pieces of a part that are worked on at once. Tasks share the cores already, one part each.
_AT_ONCE = 2
GZIP = ".gz"
# How files begin that are sometimes delivered as text by mistake.
_FORMATS = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x00asm": "binary"}


@dataclass(frozen=True)
class Layout:
    """What a contract says about the text of its files."""

    columns: tuple[str, ...]
    required: frozenset[str] = frozenset()
    delimiter: str = ","
    quote: str | None = '"'
    header: bool = True
    encoding: str = "utf-8"
    multiline: tuple[str, ...] = ()

    @classmethod
    def of(cls, contract: Contract) -> Layout:
        source = contract.delivered
        return cls(
            tuple(c.name for c in contract.columns),
            frozenset(c.name for c in contract.columns if c.required),
            source.delimiter,
            source.quote,
            source.header,
            source.encoding,
            source.multiline,
        )


@dataclass(frozen=True)
class Part:
    """The lines of a file that begin in a range of its bytes; all of them where `end` is None.
    `storage` is how its store is reached."""

    uri: str
    partition: str
    storage: Storage
    start: int = 0
    end: int | None = None


Batches = Iterator[pa.RecordBatch]
_Piece = TypeVar("_Piece")
_Done = TypeVar("_Done")


def parts(contract: Contract, delivery: Delivery, storage: Storage) -> Iterator[Part]:
    """The parts of a delivery's files that may be read on their own. Where a record may hold line
    ends, or a line end is more than one byte, nobody knows where one begins: a file is one part."""
    source = contract.delivered
    lines = source.format == "json" or source.quote is None
    for file in delivery.files:
        whole = file.size <= SPLIT or file.name.endswith(GZIP)
        if lines and "\n".encode(source.encoding) == b"\n" and not whole:
            for start in range(0, file.size, SPLIT):
                end = min(start + SPLIT, file.size)
                yield Part(file.uri, delivery.partition, storage, start, end)
        else:
            yield Part(file.uri, delivery.partition, storage)


def blocks(part: Part, encoding: str = "utf-8") -> Iterator[bytes]:
    """The part's text in UTF-8, a block at a time, without a byte order mark.
    Raises InputError where it is not the text that it should be."""
    if codecs.lookup(encoding).name == "utf-8":
        yield from _checked(part, encoding)
    else:
        yield from _decoded(part, encoding)


def _checked(part: Part, encoding: str) -> Iterator[bytes]:
    """Text that is UTF-8 already; only looked at."""
    read, rest = part.start, b""
    for block in _bytes(part):
        if not read:
            _ensure_text(block, part.uri, encoding)
        data = rest + block
        end = _last_character(data)
        text, rest = data[:end], data[end:]
        offsets = pa.py_buffer(struct.pack("=2i", 0, end))
        try:
            pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(text)]).validate(
                full=True
            )
        except pa.ArrowInvalid:
            position = read - (len(data) - len(block))
            try:
                text.decode()
            except UnicodeDecodeError as error:
                position += error.start
            raise _wrong_encoding(part, encoding, position) from None
        if b"\x00" in text:
            position = read - (len(data) - len(block)) + text.index(b"\x00")
            raise _wrong_encoding(part, encoding, position)
        if text and read - (len(data) - len(block)) == 0:
            # A byte order mark says in which order the bytes are, and is no text.
            text = text.removeprefix(codecs.BOM_UTF8)
        read += len(block)
        yield text
    try:
        rest.decode()
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data"
        position = read if cut else read - len(rest) + error.start
        raise _wrong_encoding(part, encoding, position) from None


def _last_character(data: bytes) -> int:
    """Where the last character ends that is whole."""
    for i in range(1, min(len(data), 3) + 1):
        byte = data[-i]
        if byte >= 0xC0:  # it begins one, of so many bytes
            return len(data) - i if i < 2 + (byte >= 0xE0) + (byte >= 0xF0) else len(data)
        if byte < 0x80:
            break
    return len(data)


def _decoded(part: Part, encoding: str) -> Iterator[bytes]:
    """Text of another encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = part.start
    for block in _bytes(part):
        if not read:
            _ensure_text(block, part.uri, encoding)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            raise _wrong_encoding(part, encoding, read - pending + error.start) from None
        if "\x00" in text:
            position = read - pending + len(text[: text.index("\x00")].encode(encoding))
            raise _wrong_encoding(part, encoding, position)
        read += len(block)
        yield text.encode()
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _wrong_encoding(part, encoding, read) from None


def _bytes(part: Part) -> Iterator[bytes]:
    fs, path = part.storage.filesystem(part.uri)
    with fs.open_input_file(path) as file:
        if part.uri.endswith(GZIP):
            yield from _inflated(file, part.uri)
            return
        left = file.size() if part.end is None else part.end
        if part.start:
            file.seek(part.start - 1)  # a line that ends just before the part is not in it
            left -= part.start - 1
            begun = False
            while not begun and left > 0:
                block = file.read(min(BLOCK, left))
                left -= len(block)
                _, begun, rest = block.partition(b"\n")
            if rest:
                yield rest
            block = rest
        else:
            block = b""
        while left > 0:
            block = file.read(min(BLOCK, left))
            left -= len(block)
            yield block
        while part.end is not None and block and not block.endswith(b"\n"):
            block = file.read(1 << 16)
            line, ended, _ = block.partition(b"\n")
            block = line + ended
            yield block


def _inflated(file: pa.NativeFile, where: str) -> Iterator[bytes]:
    """The text of a compressed file. Raises InputError for one that is cut off, or no gzip file."""
    try:
        with gzip.GzipFile(fileobj=file) as text:
            while block := text.read(BLOCK):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{where}: not a whole gzip file ({short(error)}). Deliver the file again."
        ) from error


def whole_lines(part: Part) -> Iterator[bytes]:
    """Blocks that end where a line does, the last one perhaps without a line end."""
    rest = b""
    for block in blocks(part):
        end = block.rfind(b"\n") + 1
        if not end:
            rest += block
            ensure_short(rest, part.uri)
            continue
        yield b"".join((rest, memoryview(block)[:end]))
        rest = block[end:]
    if rest:
        yield rest


def in_turn(work: Callable[[_Piece], _Done], pieces: Iterable[_Piece]) -> Iterator[_Done]:
    """What is made of each piece, in their order, and some at once: most of the work is Arrow's and
    NumPy's, which leave the interpreter to others. What was asked for before an error comes first."""
    waiting: deque[Future[_Done]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().result()
        except InputError:
            while waiting:
                yield waiting.popleft().result()
            raise
        while waiting:
            yield waiting.popleft().result()


def ensure_short(record: bytes, where: str) -> None:
    if len(record) > LONGEST:
        raise InputError(
            f"{where}: a record of more than {LONGEST >> 20} MiB, or a quoted field that is never"
            " closed. Deliver the file again."
        )


def _ensure_text(data: bytes, where: str, encoding: str) -> None:
    for magic, name in _FORMATS.items():
        if data.startswith(magic):
            raise InputError(
                f"{where}: a {name} file, whatever its name says. Deliver it as text, in"
                f" {encoding.upper()}."
            )


def _wrong_encoding(part: Part, encoding: str, position: int) -> InputError:
    name = encoding.upper()
    return InputError(f"{part.uri}: not {name} text (byte {position}). Deliver the file as {name}.")


def short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200]


@dataclass
class Found:
    """What a reader has found out about a part so far."""

    records: int = 0
    extra: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    seen: bool = False


Parse = Callable[[Part, Layout, Found], Batches]


def parsed(parse: Parse, part: Part, layout: Layout) -> Batches:
    """The rows of one part, and last the row that sums it up."""
    found, told = Found(), {}
    try:
        yield from parse(part, layout, found)
    except InputError as error:
        told["_file_error"] = str(error)
    if found.seen:
        drift = {"file": part.uri, "extra": found.extra, "missing": found.missing}
        told["_drift"] = json.dumps(drift)
    where = {"uri": part.uri, "partition": part.partition}
    yield summary(layout.columns, **where, _records=found.records, **told)


def read_text(
    spark: SparkSession,
    contract: Contract,
    deliveries: list[Delivery],
    storage: Storage,
    parse: Parse,
) -> DataFrame:
    """Rows of all files."""
    listed = [p for d in deliveries for p in parts(contract, d, storage)]
    if not listed:
        return empty(spark, contract)
    layout = Layout.of(contract)

    def parse_files(batches: Batches) -> Batches:
        for batch in batches:
            for row in batch.to_pylist():
                yield from parsed(parse, Part(**row, storage=storage), layout)

    rows = [(p.uri, p.partition, p.start, p.end) for p in listed]
    paths = spark.createDataFrame(rows, "uri string, partition string, start bigint, end bigint")
    return spread(paths, len(rows)).mapInArrow(parse_files, schema(contract))
