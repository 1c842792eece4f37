"""A service that answers, and a program that asks, on plain sockets.

    load.py serve PORT-FILE                              answer every request with 200
    load.py load ADDRESS CONNECTIONS RATE STOP-FILE      ask until STOP-FILE is there; 1 if an answer is not 200

Each connection stays open, as those of real programs do, and its requests are spread over the second.
"""

import asyncio
import os
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nupstream\n"


async def answer(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port_file):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with open(port_file + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(port_file + ".new", port_file)
    await server.serve_forever()


class Load:
    def __init__(self, address, connections, rate, stop_file):
        self.host, port = address.rsplit(":", 1)
        self.port, self.pause, self.stop_file = int(port), connections / rate, stop_file
        self.connections, self.served, self.reconnects, self.failures = connections, 0, 0, []

    async def run(self):
        self.stopping = False
        began = time.monotonic()
        asked = [asyncio.create_task(self.ask(number)) for number in range(self.connections)]
        while not os.path.exists(self.stop_file):
            await asyncio.sleep(0.1)
        self.stopping = True
        await asyncio.gather(*asked)
        seconds = time.monotonic() - began
        print(
            f"{self.served} requests on {self.connections} connections, {self.served / seconds:.0f} a second,"
            f" {len(self.failures)} failed, {self.reconnects} connections closed between two requests"
        )
        for failure in self.failures[:10]:
            print(failure)
        return 1 if self.failures or not self.served else 0

    async def ask(self, number):
        await asyncio.sleep(self.pause * number / self.connections)
        reader = writer = None
        due = time.monotonic()
        while not self.stopping:
            if writer is None:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            elif reader.at_eof():
                # Closed while nothing was asked, as HTTP/1.1 allows at any time.
                self.reconnects += 1
                writer.close()
                reader = writer = None
                continue
            try:
                writer.write(b"GET / HTTP/1.1\r\nhost: node2\r\n\r\n")
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if head.split(b" ")[1] == b"200":
                    self.served += 1
                else:
                    self.failures.append(head.split(b"\r\n")[0].decode())
            except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError, IndexError) as error:
                self.failures.append(repr(error))
                writer.close()
                reader = writer = None
            due = max(due + self.pause, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        if writer is not None:
            writer.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port_file]:
            asyncio.run(serve(port_file))
        case ["load", address, connections, rate, stop_file]:
            sys.exit(asyncio.run(Load(address, int(connections), int(rate), stop_file).run()))
        case _:
            sys.exit(__doc__)
