"""What a form says, as the API would take it."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from api.routing import field_errors
from workflow.errors import BadInput

Model = TypeVar("Model", bound=BaseModel)


def read_as(model: type[Model], **given: object) -> Model:
    """Raises BadInput naming the fields that make no sense."""
    try:
        return model.model_validate(given)
    except ValidationError as invalid:
        raise BadInput(*field_errors(invalid)) from invalid
