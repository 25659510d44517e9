"""The client's part of SynthGrid's exception tree.

    SynthGridError                  (comfy_nodes.errors)
    '- ClientError                  everything that can go wrong between a plan and its labelled folder
       |- WorkflowError             a workflow file that cannot be run: not JSON, nodes missing, bad values, not convertible
       |- AccessError               a token, header or certificate that cannot be used
       |- ServerError               a server and what it says
       |  |- ServerUnreachable      nothing answers, or it stopped answering; trying later may help
       |  |  '- ServerHung          it answers, but the jobs on it do not move
       |  |- ServerRefused          it answers, and says no (HTTP 400 with node errors, HTML, a redirect)
       |  '- TransferError          an image that did not come whole or is not the one that was planned
       |- JobFailed                 a queued prompt that ended in an error on the server
       |- FolderError               an output folder that is not this run's, or that another client is writing
       '- RunIncomplete             the run ended before every image was there; running again completes it

A message is one line: it names the culprit, what was expected, and the next step.
"""

from __future__ import annotations

from comfy_nodes.errors import SynthGridError


class ClientError(SynthGridError):
    """Anything that goes wrong between a plan and its labelled folder."""


class WorkflowError(ClientError):
    """A workflow file that cannot be run as it is."""


class AccessError(ClientError):
    """A token, header, certificate or time-out that cannot be used. The message never holds a secret."""


class ServerError(ClientError):
    """A server, or what it answered."""


class ServerUnreachable(ServerError):
    """No answer. The request may or may not have been received."""


class ServerHung(ServerUnreachable):
    """It answers, but nothing on it has moved for too long."""


class ServerRefused(ServerError):
    """An answer that is not the one hoped for. `status` is the HTTP status, 0 where that is not the point."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TransferError(ServerError):
    """An image that did not come whole, or is not the one that was planned."""


class JobFailed(ClientError):
    """A queued prompt that ended in an error on the server."""


class FolderError(ClientError):
    """An output folder that is not this run's, or that another client is writing."""


class RunIncomplete(ClientError):
    """The run ended before every image was there; what is finished is kept, and running again completes it."""
