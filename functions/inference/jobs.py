"""The event that asks for an answer: lease the job that it names, and run it."""

from uuid import UUID

from shared import generation
from shared.events import INFERENCE_REQUESTED, Delivery, consumer
from shared.leases import WORKER
from shared.models import Shape
from shared.settings import get_settings

FUNCTION = "inference"


class Requested(Shape):
    """The data of `inference.requested`."""

    job_id: UUID
    turn_id: UUID


@consumer(INFERENCE_REQUESTED, function=FUNCTION, data=Requested)
async def run_requested(delivery: Delivery[Requested]) -> None:
    """Run the job that the event names, unless it is done; raises Problem `in_progress` while another worker runs it."""
    claim = await delivery.claim(
        "inference.claim", p_job_id=delivery.data.job_id, p_worker=WORKER, p_lease=get_settings().job_lease()
    )
    if claim is not None:
        await generation.run(claim, delivery.actor, event=(delivery.event.source, delivery.event.id))
