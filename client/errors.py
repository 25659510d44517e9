"""The client's part of SynthGrid's exception tree.

    SynthGridError               (comfy_nodes.errors)
    '- ClientError               anything that goes wrong between a plan and its labelled folder
       |- WorkflowError          a workflow that cannot run: not JSON, missing nodes, bad values
       |- AccessError            a token, header or certificate that cannot be used
       |- ServerError            a server and what it says
       |  |- ServerUnreachable   no answer, or no longer; trying later may help
       |  |  '- ServerHung       it answers, but the jobs on it do not move
       |  |- ServerRefused       it answers no (HTTP 400 with node errors, HTML, a redirect)
       |  '- TransferError       an image that is incomplete or is not the planned one
       |- JobFailed              a queued prompt that ended in an error on the server
       |- FolderError            a folder that is not this run's, or that another client is writing
       '- RunIncomplete          the run ended with images missing; running again completes it

A message is one line: it names the culprit, what was expected, and the next step.
"""

from __future__ import annotations

from comfy_nodes.errors import SynthGridError


class ClientError(SynthGridError):
    """Anything that goes wrong between a plan and its labelled folder."""


class WorkflowError(ClientError):
    """A workflow that cannot run as it is."""


class AccessError(ClientError):
    """A token, header, certificate or timeout that cannot be used. Messages never hold a secret."""


class ServerError(ClientError):
    """A server, or what it answered."""


class ServerUnreachable(ServerError):
    """No answer. The request may or may not have been received."""


class ServerHung(ServerUnreachable):
    """It answers, but nothing on it has moved for too long."""


class ServerRefused(ServerError):
    """It answers, but not as hoped. `status` is the HTTP status, 0 if that is not the problem."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TransferError(ServerError):
    """An image that is incomplete, or is not the planned one."""


class JobFailed(ClientError):
    """A queued prompt that ended in an error on the server."""


class FolderError(ClientError):
    """An output folder that is not this run's, or that another client is writing."""


class RunIncomplete(ClientError):
    """The run ended with images missing. Finished ones stay; running again completes the folder."""
