"""The event that asks for an answer: lease the job that it names, and run it."""

from shared import generation
from shared.event_data import InferenceRequested
from shared.events import INFERENCE_REQUESTED, Delivery, consumer
from shared.leases import WORKER
from shared.settings import get_settings

FUNCTION = "inference"


@consumer(INFERENCE_REQUESTED, function=FUNCTION, data=InferenceRequested)
async def run_requested(delivery: Delivery[InferenceRequested]) -> None:
    """Run the job that the event names, unless it is done; raises Problem `in_progress` while another worker runs it."""
    claim = await delivery.claim(
        "inference.claim", p_job_id=delivery.data.job_id, p_worker=WORKER, p_lease=get_settings().job_lease()
    )
    if claim is not None:
        await generation.run(claim, delivery.actor, event=(delivery.event.source, delivery.event.id))
