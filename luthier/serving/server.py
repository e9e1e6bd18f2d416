"""Running the application on a port."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from luthier.errors import RunError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from luthier.serving.pool import ModelPool

#: Seconds that running answers get to finish after Ctrl-C; a second Ctrl-C ends them at once.
GRACE_SECONDS = 10


def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    ready: Callable[[str], None] | None = None,
    access_log: bool = False,
) -> None:
    """Serve `app`, made by `create_app`, until Ctrl-C or SIGTERM.

    The port is taken first, then the default model is loaded, then requests are answered; those
    that arrive in between wait.

    Args:
        app: the application.
        host: an address of this machine. One that others can reach needs an API key.
        port: 0 takes a free one.
        ready: called once with the base URL, such as "http://127.0.0.1:8000/v1", when the default
            model is loaded.
        access_log: whether each request is logged.

    Raises:
        RunError: the port is in use or may not be taken, or the address is open without a key.
        LuthierError: what the default model's loader found.
    """
    import uvicorn

    if not (app.state.has_key or _is_loopback(host)):
        raise RunError(
            f"Other machines could use the server on {host} without a key.",
            fix="Give one with --api-key, or serve on 127.0.0.1.",
        )
    pool: ModelPool = app.state.pool
    with contextlib.closing(bind(host, port)) as listening:
        try:
            pool.load(pool.default)
            if ready is not None:
                shown = f"[{host}]" if ":" in host else host
                ready(f"http://{shown}:{listening.getsockname()[1]}/v1")
            config = uvicorn.Config(
                app,
                log_level="info" if access_log else "warning",
                access_log=access_log,
                timeout_graceful_shutdown=GRACE_SECONDS,
                ws="none",
                lifespan="on",
            )
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # how the server is meant to be ended
        finally:
            pool.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`; clients can connect, and wait.

    Raises:
        RunError: the address cannot be taken; the message says why.
    """
    if not 0 <= port <= 65535:  # the system would take the number modulo 65536
        raise RunError(f"Port {port} does not exist.", fix="Ports go from 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise RunError(
            f"{host}:{port} is no address to serve on.",
            fix="Give --host an address of this machine.",
        ) from None
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # a server that has just ended leaves its port in TIME_WAIT; elsewhere the option
            # would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # listening at once: until then a second server could bind the same port
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise _why(error, host, port) from None
    return listening


def _why(error: OSError, host: str, port: int) -> RunError:
    if error.errno == errno.EADDRINUSE:
        return RunError(f"Port {port} is already in use.", fix="Choose another with --port.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return RunError(
            f"Port {port} may not be used by this user.", fix="Choose one from 1024 with --port."
        )
    return RunError(
        f"{host}:{port} cannot be served on: {error.strerror}.", fix="Choose another --host."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
