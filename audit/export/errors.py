"""What can go wrong in an export."""

from audit.errors import AuditError


class ExportError(AuditError):
    """Something that can't be exported as asked; nothing was recorded as delivered."""


class DeliveryError(ExportError):
    """The destination didn't take what was sent; the cursor stays, and the same records are sent again next time."""
