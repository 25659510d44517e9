"""Options that say which servers make the images, and the servers they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AccessError, ClientError, ServerError, WorkflowError

if TYPE_CHECKING:
    from ..run.cluster import RayCluster
    from ..server.access import Access
    from ..server.fleet import AnyServer, ServerSource
    from ..server.launch import EmbeddedServer
    from ..server.server import ComfyServer


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Which workflow, on which server."""
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW", help="a workflow, in API or editor format"
    )
    parser.add_argument(
        "--server",
        required=True,
        metavar="URL|embedded[:DEVICE]",
        help="a ComfyUI, or the built-in engine",
    )
    _add_embedded_options(parser)
    add_access_options(parser)


def _add_embedded_options(group: Any) -> None:
    """Adds to a parser or to one of its groups."""
    group.add_argument(
        "--checkpoint-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="embedded only: a folder of checkpoints, diffusers folders or .safetensors files of "
        "SD1.5 (repeatable)",
    )
    group.add_argument(
        "--input-directory",
        type=Path,
        metavar="DIR",
        help="embedded only: the engine's input folder",
    )


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """How the server is reached. Secrets are named, never given: command lines are public."""
    group = parser.add_argument_group(
        "reaching the server (secrets are read from the environment or from files)"
    )
    group.add_argument(
        "--token-env", metavar="NAME", help="environment variable that holds a bearer token"
    )
    group.add_argument(
        "--token-file", type=Path, metavar="PATH", help="file that holds a bearer token"
    )
    group.add_argument(
        "--basic-env", metavar="NAME", help="environment variable that holds user:password"
    )
    group.add_argument(
        "--basic-file", type=Path, metavar="PATH", help="file that holds user:password"
    )
    group.add_argument(
        "--header-file",
        type=Path,
        metavar="PATH",
        help="file of further headers, one 'Name: value' per line",
    )
    group.add_argument(
        "--ca-file",
        type=Path,
        metavar="PATH",
        help="PEM file of the authority that signed the server's https certificate",
    )
    group.add_argument(
        "--connect-timeout", type=float, metavar="S", help="seconds to connect (default: 5)"
    )
    group.add_argument(
        "--read-timeout",
        type=float,
        metavar="S",
        help="longest silence of the server, in seconds (default: 60)",
    )
    group.add_argument(
        "--whole-timeout", type=float, metavar="S", help="seconds for one answer (default: 300)"
    )
    group.add_argument(
        "--job-timeout",
        type=float,
        metavar="S",
        help="seconds that one job may run before it is cancelled (default: 86400, a day)",
    )


def access_of(args: argparse.Namespace) -> Access:
    """The access that the options describe.

    Raises:
        AccessError: a secret or certificate that cannot be read or used.
    """
    from ..server.access import load_access

    return load_access(
        token_env=args.token_env,
        token_file=args.token_file,
        basic_env=args.basic_env,
        basic_file=args.basic_file,
        header_file=args.header_file,
        ca_file=args.ca_file,
        connect_s=args.connect_timeout,
        read_s=args.read_timeout,
        whole_s=args.whole_timeout,
        job_s=args.job_timeout,
    )


def add_fleet_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The servers, and how images come from them; `fleet_of` reads these options.

    At least one server must be given if `required`.
    """
    group = parser.add_argument_group("servers")
    group.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="URL|embedded[:DEVICE]",
        help="a ComfyUI, or the built-in engine, on a device such as embedded:cuda:1 (repeatable: "
        "the servers share the work)",
    )
    group.add_argument(
        "--servers",
        type=Path,
        metavar="FILE",
        help="JSON or TOML list of servers with url, name, weight, token_env, output_directory; "
        "read again when it changes, so that servers may join and leave during a run",
    )
    group.add_argument(
        "--collect",
        default="view",
        metavar="view|local:DIR",
        help="view: download images (default). local:DIR: move them out of DIR, the output folder "
        "of a --server on this machine; for several, give output_directory in --servers FILE",
    )
    _add_embedded_options(group)
    add_access_options(parser)
    parser.set_defaults(servers_required=required, wrong_usage=parser.error)


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """A cluster instead of servers; `engines_of` reads these options."""
    group = parser.add_argument_group("a Ray cluster instead of servers")
    group.add_argument(
        "--executor",
        choices=("servers", "ray"),
        default="servers",
        help="ray: one built-in engine per GPU of a Ray cluster, or per some CPU cores",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="address of the Ray cluster, or ray://HOST:PORT (default: start Ray on this machine)",
    )
    group.add_argument(
        "--cores-per-worker",
        type=int,
        metavar="N",
        help="CPU cores that an engine reserves (default: 1 beside a GPU, else 4)",
    )


def engines_of(args: argparse.Namespace, stack: ExitStack) -> list[AnyServer] | RayCluster:
    """The servers or the cluster that were asked for; nothing is started or connected yet.

    Raises what `fleet_of` does, and:
        ClientError: a number of cores below 1.
        SystemExit: wrong usage: options of a cluster without --executor ray.
    """
    return _cluster_of(args, stack) or fleet_of(args, stack)


def _cluster_of(args: argparse.Namespace, stack: ExitStack) -> RayCluster | None:
    if args.executor != "ray":
        for name in ("address", "cores_per_worker"):
            if getattr(args, name) is not None:
                args.wrong_usage(f"--{name.replace('_', '-')} needs --executor ray")
        return None
    if args.server or args.servers or args.collect != "view":
        args.wrong_usage("--executor ray takes no --server, --servers or --collect")
    from ..run.cluster import RayCluster

    cluster = RayCluster(
        args.address,
        cores=args.cores_per_worker,
        checkpoint_directories=tuple(each.expanduser().resolve() for each in args.checkpoint_dir),
        input_directory=args.input_directory and args.input_directory.expanduser().resolve(),
    )
    return stack.enter_context(cluster)


def add_event_options(parser: argparse.ArgumentParser) -> None:
    """Events for scripts."""
    parser.add_argument(
        "--json-events",
        action="store_true",
        help="print each event as a line of JSON (docs/reference/json-events.md), and the "
        "result to stderr",
    )


def fleet_of(args: argparse.Namespace, stack: ExitStack) -> list[AnyServer]:
    """The servers that were asked for; nothing is started or connected yet.

    "embedded" given twice is two engines.

    Raises:
        ClientError: an invalid device or address, a folder to collect from that does not exist, or
            one token (password, header) for several servers.
        SystemExit: wrong usage: no server, or `--collect` is neither "view" nor "local:DIR".
    """
    from ..server.fleet import ServerSpec, read_servers
    from ..server.launch import embedded_device, engine_name

    folder = _collect_from(args)
    servers: list[AnyServer] = []
    devices = [embedded_device(url) for url in args.server]
    urls = [url for url, device in zip(args.server, devices, strict=True) if device is None]
    access = _access_for(urls, args)
    for number, (url, device) in enumerate(zip(args.server, devices, strict=True)):
        if device is not None:
            name = engine_name(url, args.server[: number + 1].count(url))
            servers.append(_embedded_server(args, stack, device, name))
        else:
            servers.append(ServerSpec(url, access=access, output_directory=folder))
    servers += read_servers(args.servers) if args.servers else ()
    if not servers and args.servers_required:
        args.wrong_usage("no server; give --server URL, --server embedded, or --servers FILE")
    return servers


def _access_for(urls: Sequence[str], args: argparse.Namespace) -> Access:
    """The access that the options describe; a secret is for one server, and tied to it."""
    from ..server.address import origin_of

    access = access_of(args)
    origins = list(dict.fromkeys(map(origin_of, urls)))
    if not access.sent_headers() or not origins:
        return access
    if len(origins) > 1:
        raise AccessError(
            f"{_secret_options(args)} is for one server, and {len(origins)} are given "
            f"({', '.join(origins)}); give every server its own, in a file with --servers: "
            '[{"url": "...", "token_env": "NAME"}]'
        )
    return access.for_server(origins[0])


def _secret_options(args: argparse.Namespace) -> str:
    names = ("token_env", "token_file", "basic_env", "basic_file", "header_file")
    return " and ".join(f"--{name.replace('_', '-')}" for name in names if getattr(args, name))


def object_info_of(servers: Sequence[AnyServer] | RayCluster) -> Mapping[str, Any]:
    """The /object_info of the first engine that answers. Raises ServerError if none does."""
    if not isinstance(servers, Sequence):
        return servers.introduction().object_info
    return _first_answer(servers, described_by)


def described_by(server: ComfyServer) -> Mapping[str, Any]:
    """A server's /object_info for a conversion: without the secrets that it may send back."""
    info: Mapping[str, Any] = server.hide_in(server.object_info())
    return info


def saved_object_info(path: Path) -> Mapping[str, Any]:
    """A server's answer to GET /object_info in a file. Raises WorkflowError: it is none."""
    from ..workflow.graph import read_json

    value = read_json(path)
    if not isinstance(value, dict):
        raise WorkflowError(f"{path} is not an answer of /object_info; expected a JSON object")
    return value


def replaced_by(server: ComfyServer) -> Mapping[str, Any]:
    """Its /node_replacements, likewise."""
    found: Mapping[str, Any] = server.hide_in(server.node_replacements())
    return found


def replacements_of(servers: Sequence[AnyServer] | RayCluster) -> Mapping[str, Any]:
    """Its /node_replacements. Raises ServerError if none answers."""
    if not isinstance(servers, Sequence):
        return servers.introduction().replacements
    return _first_answer(servers, replaced_by)


def _first_answer(
    servers: Sequence[AnyServer], ask: Callable[[ComfyServer], Mapping[str, Any]]
) -> Mapping[str, Any]:
    from ..server.fleet import Patience, seats_of

    errors = []
    for seat in seats_of(servers, patience=Patience()):
        try:
            server = seat.source.open()
            try:
                return ask(server)
            finally:
                if not seat.stays_open:
                    server.close()
        except ServerError as error:
            errors.append(error)
    raise errors[0]


def _collect_from(args: argparse.Namespace) -> Path | None:
    way, _, folder = args.collect.partition(":")
    if way == "view" and not folder:
        return None
    if way != "local" or not folder:
        args.wrong_usage(
            f"--collect {args.collect}: "
            "expected 'view', or 'local:DIR' with the server's output folder"
        )
    if len(args.server) != 1:
        raise ClientError(
            "--collect local:DIR needs exactly one --server; "
            "for several, give output_directory in --servers FILE"
        )
    if not Path(folder).expanduser().is_dir():
        raise ClientError(
            f"--collect {args.collect}: {folder} is not a folder; "
            "give the output folder of the server"
        )
    return Path(folder)


def is_embedded(args: argparse.Namespace) -> bool:
    """Whether only embedded engines make the images."""
    if getattr(args, "executor", None) == "ray":
        return True
    given = getattr(args, "server", None) or []
    servers = [given] if isinstance(given, str) else given
    return bool(servers) and all(each.partition(":")[0] == "embedded" for each in servers)


def server_of(args: argparse.Namespace, stack: ExitStack) -> ServerSource:
    """The server that was asked for; nothing is started or connected yet."""
    from ..server.launch import embedded_device

    device = embedded_device(args.server)
    if device is not None:
        return _embedded_server(args, stack, device, args.server)
    from ..server.fleet import GivenServer
    from ..server.server import ComfyServer

    return GivenServer(stack.enter_context(ComfyServer(args.server, access=access_of(args))))


def _embedded_server(
    args: argparse.Namespace, stack: ExitStack, device: str, name: str
) -> EmbeddedServer:
    from ..server.launch import EmbeddedServer

    server = EmbeddedServer(
        checkpoint_directories=args.checkpoint_dir,
        input_directory=args.input_directory,
        device=device,
        name=name,
    )
    return stack.enter_context(server)
