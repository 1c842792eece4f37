"""A WebSocket service on a free port, which it prints: it sends every message back, and prints the path of every request."""

import asyncio
import contextlib
import logging

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# What is no handshake is refused, and that is all there is to say about it.
logging.disable()


async def echo(connection):
    # A client that is cut off says no goodbye.
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


def told(_, request):
    print("request", request.path, flush=True)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, process_request=told) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
