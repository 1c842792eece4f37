"""A WebSocket client: URL and, as JSON on the first line of standard input, `ca`, `cert`, `key` and `headers`.

It prints `open`, or `status CODE` or `failed ERROR`. Then it obeys each further line and prints what came of it:

    text TEXT   sends it; `text ANSWER`
    bytes N     sends a message of that many random bytes; `bytes same` or `bytes different`
    ping        `pong`, once it came
    close CODE  closes; `closed CODE` with what the other side said

When the connection ends otherwise it prints `lost`.
"""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def lines():
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def obey(connection, line):
    verb, _, rest = line.partition(" ")
    if verb == "text":
        await connection.send(rest)
        return f"text {await connection.recv()}"
    if verb == "bytes":
        sent = os.urandom(int(rest))
        await connection.send(sent)
        return "bytes " + ("same" if await connection.recv() == sent else "different")
    if verb == "ping":
        await (await connection.ping())
        return "pong"
    if verb == "close":
        await connection.close(int(rest))
        return f"closed {connection.close_code}"
    raise ValueError(line)


async def serve(connection, reader):
    while line := (await reader.readline()).decode().rstrip("\n"):
        print(await obey(connection, line), flush=True)
        if line.startswith("close"):
            return


def context(terms):
    if "ca" not in terms:
        return None
    made = ssl.create_default_context(cafile=terms["ca"])
    if "cert" in terms:
        made.load_cert_chain(terms["cert"], terms["key"])
    return made


async def main():
    reader = await lines()
    terms = json.loads(await reader.readline())
    try:
        connection = await connect(
            sys.argv[1],
            ssl=context(terms),
            additional_headers=terms.get("headers"),
            max_size=None,
            ping_interval=None,
            proxy=None,
        )
    except InvalidStatus as error:
        print("status", error.response.status_code, flush=True)
        return
    except Exception as error:  # Whatever it is, the test reads it.
        print("failed", repr(error), repr(error.__cause__), flush=True)
        return
    print("open", flush=True)
    serving = asyncio.create_task(serve(connection, reader))
    lost = asyncio.create_task(connection.wait_closed())
    await asyncio.wait([serving, lost], return_when=asyncio.FIRST_COMPLETED)
    if serving.done() and not isinstance(serving.exception(), ConnectionClosed):
        serving.result()
    else:
        print("lost", flush=True)
    os._exit(0)


asyncio.run(main())
