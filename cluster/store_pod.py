"""The embedded store's pod: runs SeaweedFS on loopback and opens only its S3 port to the outside.

SeaweedFS binds all its servers to one address, and its master, volume and filer ports have no authentication. So all
servers listen on loopback, and this process forwards the pod's S3 port to the S3 server.
"""

import argparse
import asyncio
import configparser
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

INNER_PORT = 18333
CHUNK_BYTES = 256 * 1024


def weed_command(folder: Path, bucket: str) -> list[str]:
    return [
        "weed", "-logtostderr", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-s3.port={INNER_PORT}", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-bucket={bucket}",
    ]  # fmt: skip


def credentials(path: Path) -> tuple[str, str]:
    """Access key and secret of the default profile of an AWS shared credentials file.

    Raises:
        ValueError: the file is not a credentials file. The message does not repeat its content.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text())
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]
    except (configparser.Error, KeyError):
        raise ValueError(
            f"{path}: expected an AWS credentials file with a [default] section, "
            "aws_access_key_id and aws_secret_access_key"
        ) from None


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = INNER_PORT) -> None:
    """Forward one connection to ``port`` on loopback, in both directions, until either side closes it."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            if sink.can_write_eof() and not sink.is_closing():
                try:
                    sink.write_eof()
                except OSError:
                    sink.close()

    await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
    for sink in (writer, inner_writer):
        sink.close()


async def serve(folder: Path, bucket: str, port: int, keys: tuple[str, str]) -> int:
    """Run SeaweedFS and the forwarder until a signal, or until SeaweedFS ends. Returns the exit status of SeaweedFS."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
    environment.pop("AWS_SHARED_CREDENTIALS_FILE", None)
    environment.pop("AWS_ENDPOINT_URL_S3", None)
    process = await asyncio.create_subprocess_exec(*weed_command(folder, bucket), env=environment, cwd=folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.terminate)
    while process.returncode is None:
        try:
            _, probe = await asyncio.open_connection("127.0.0.1", INNER_PORT)
            probe.close()
            break
        except OSError:
            await asyncio.sleep(0.2)
    server = await asyncio.start_server(forward, "0.0.0.0", port)
    async with server:
        return await process.wait()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m zooforge.cluster.store_pod", description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--credentials", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        keys = credentials(options.credentials)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"store: {error}\n")
        return 2
    return asyncio.run(serve(options.dir, options.bucket, options.port, keys))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
