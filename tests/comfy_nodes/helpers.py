"""What several tests of the nodes share."""

from comfy_nodes.labelset import LabelledFolder


def scanned_records(root):
    """Scans a labelled folder; (plan_id, index) -> record, in the order of metadata.jsonl."""
    folder = LabelledFolder(root)
    folder.scan()
    return {record.key: record for record in (line.record() for line in folder.lines())}
