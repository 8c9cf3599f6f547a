"""What a desk sends its letters with: the mail server, once there is something to send, and the limits on it."""

import time
from datetime import datetime, timedelta

from api.carrying_out import Failed, Result
from api.mail_addresses import mailbox_of
from api.sending import Mailer, Outgoing
from api.settings import Settings
from storage import acknowledgements
from storage.database import Database

HOUR = timedelta(hours=1)
RECKONED_SECONDS = 5.0  # between two looks at how many acknowledgements have left, by whichever process


class Post:
    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.mailer: Mailer | None = None
        self.left = 0
        self.reckoned_at = -RECKONED_SECONDS

    async def send(self, mail: Outgoing) -> Result:
        url = self.settings.smtp_url
        if url is None:
            return Failed(code="no_mail_server")
        if self.mailer is None:
            self.mailer = Mailer(url.get_secret_value(), mailbox_of(self.settings.support_address).host)
        return await self.mailer.send(mail)

    async def may_acknowledge(self, now: datetime) -> bool:
        """Whether fewer have left within the hour than may. It may be wrong by those of a few seconds."""
        if time.monotonic() - self.reckoned_at >= RECKONED_SECONDS:
            self.reckoned_at = time.monotonic()
            most = self.settings.acknowledgements_per_hour
            self.left = await acknowledgements.sent_since(self.database, now - HOUR, most)
        return self.left < self.settings.acknowledgements_per_hour

    def acknowledged(self) -> None:
        self.left += 1

    async def close(self) -> None:
        if self.mailer is not None:
            await self.mailer.close()
