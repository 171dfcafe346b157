"""The shim between clients of Redshift and PostgreSQL: their protocol, message by message.

Belongs here: logging in as Redshift has it, handing statements to the translator, errors as Redshift
words them, and the faults that tests ask for. Does not belong here: SQL (statements.py).
Protocol: PostgreSQL's documentation, "Frontend/Backend Protocol", version 3.0.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from lakehouse.standins.servers.redshift.statements import Translator

_SSL_REQUEST, _CANCEL, _PROTOCOL_3 = 80877103, 80877102, 196608
_SERIALIZATION_FAILURES = (b"40001", b"40P01")

Accepts = Callable[[str, str], "str | None"]
"""The database user that a login name and a password stand for; None if they are wrong."""


@dataclass
class Fault:
    """What happens to the next `times` statements that match `pattern`, after `skip` others: the
    connection is `cut` before they run, their `reply is lost` after they ran, they `hang` until the
    client leaves, or they fail with `conflict`, Redshift's isolation error."""

    pattern: str
    what: Literal["cut", "reply is lost", "hang", "conflict"]
    times: int = 1
    skip: int = 0
    happened: threading.Event = field(default_factory=threading.Event, repr=False)

    def strikes(self, sql: str) -> bool:
        if self.times < 1 or not re.search(self.pattern, sql, re.IGNORECASE | re.DOTALL):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        self.happened.set()
        return True


@dataclass
class Shim:
    translator: Translator
    accepts: Accepts
    socket: str
    tls: ssl.SSLContext
    faults: list[Fault] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, from its first byte to its last."""
        try:
            await _Session(self, reader, writer).run()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client left, or was made to
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            writer.close()


@dataclass
class _Session:
    shim: Shim
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    database: str = ""
    user: str = ""
    _lose_reply: bool = False
    _prepared: dict[bytes, str] = field(default_factory=dict)
    _parsed: bytes | None = None

    async def run(self) -> None:
        parameters = await self._startup()
        if parameters is None:
            return
        login, self.database = parameters["user"], parameters["database"]
        self.writer.write(_message(b"R", struct.pack("!i", 3)))  # a password in clear text, please
        _, password = await _read(self.reader)
        user = self.shim.accepts(login, password[:-1].decode())
        if user is None:
            self.writer.write(
                _error(b"FATAL", b"28000", f'password authentication failed for user "{login}"')
            )
            await self.writer.drain()
            return
        self.user = user
        refresh = self.shim.translator.external.refresh
        await asyncio.to_thread(refresh, self.database, user)
        server_reader, server_writer = await asyncio.open_unix_connection(self.shim.socket)
        try:
            # Without the parameters that only Redshift knows.
            kept = {"user": user, "database": self.database, "application_name": "redshift"}
            text = b"".join(f"{k}\0{v}\0".encode() for k, v in kept.items()) + b"\0"
            server_writer.write(struct.pack("!ii", len(text) + 8, _PROTOCOL_3) + text)
            await _first_of(
                self._to_server(server_writer), self._to_client(server_reader, self.writer)
            )
        finally:
            server_writer.close()

    async def _startup(self) -> dict[str, str] | None:
        while True:
            length, code = struct.unpack("!ii", await self.reader.readexactly(8))
            body = await self.reader.readexactly(length - 8)
            if code == _PROTOCOL_3:
                words = [w.decode() for w in body.split(b"\0")]
                return dict(zip(words[0::2], words[1::2], strict=False))
            if code == _CANCEL:
                return None
            if code == _SSL_REQUEST:
                self.writer.write(b"S")
                await self.writer.drain()
                await self.writer.start_tls(self.shim.tls)

    async def _to_server(self, server: asyncio.StreamWriter) -> None:
        while True:
            kind, body = await _read(self.reader)
            if kind in b"PQ":
                name, rest = body.split(b"\0", 1) if kind == b"P" else (b"", body)
                sql, types = rest.split(b"\0", 1)
                text = await self._translated(sql.decode())
                self._prepared[name] = sql.decode()
                self._parsed = name
                body = (name + b"\0" if kind == b"P" else b"") + text.encode() + b"\0" + types
            elif kind == b"B":  # drivers keep what they prepared, and run it again
                name = body.split(b"\0", 2)[1]
                if name != self._parsed and name in self._prepared:
                    await self._noted(self._prepared[name])
                self._parsed = None
            server.write(_message(kind, body))
            await server.drain()

    async def _translated(self, sql: str) -> str:
        """A statement for PostgreSQL, or one that fails as a fault asks for."""
        if await self._noted(sql) == "conflict":
            return (
                "do $standin$ begin raise serialization_failure using"
                " message = 'could not serialize access'; end $standin$"
            )
        translate = self.shim.translator.translate
        return await asyncio.to_thread(translate, sql, self.database, self.user)

    async def _noted(self, sql: str) -> str | None:
        """Notes a statement that is about to run; the fault that it meets, if it meets one."""
        self.shim.statements.append(sql)
        for fault in self.shim.faults:
            if fault.strikes(sql):
                if fault.what == "cut":
                    raise ConnectionResetError
                if fault.what == "hang":
                    await self.reader.read()
                    raise ConnectionResetError
                self._lose_reply = fault.what == "reply is lost"
                return fault.what
        return None

    async def _to_client(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        executed = False
        while True:
            kind, body = await _read(server)
            executed = executed or kind == b"C"
            if self._lose_reply:
                if executed and kind == b"Z":  # it has run, and nobody hears of it
                    raise ConnectionResetError
                if kind == b"C":
                    continue
            if kind != b"C":
                executed = False if kind == b"Z" else executed
            client.write(_message(kind, _as_redshift(body) if kind == b"E" else body))
            await client.drain()


def _as_redshift(error: bytes) -> bytes:
    """An error of PostgreSQL in the words that Redshift has for it."""
    fields = {part[:1]: part[1:] for part in error.split(b"\0") if part}
    if fields.get(b"C") in _SERIALIZATION_FAILURES:
        fields[b"C"] = b"XX000"
        fields[b"M"] = (
            b"1023 DETAIL: Serializable isolation violation on table - 100, transactions forming"
            b" the cycle are: 1, 2 (pid:1)"
        )
        fields.pop(b"D", None)
    return b"".join(k + v + b"\0" for k, v in fields.items()) + b"\0"


def _error(severity: bytes, code: bytes, message: str) -> bytes:
    return _message(b"E", b"S" + severity + b"\0C" + code + b"\0M" + message.encode() + b"\0\0")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    return kind, await reader.readexactly(length - 4)


async def _first_of(*directions: Awaitable[None]) -> None:
    """Both directions, until one of them ends; its error is raised."""
    tasks = [asyncio.ensure_future(d) for d in directions]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
