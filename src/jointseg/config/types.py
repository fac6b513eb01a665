"""Types that all sections of the config share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Metres = PositiveFloat
Percent = Annotated[float, Field(ge=0, le=100)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
Year = Annotated[int, Field(ge=2015, le=2100)]


class Section(BaseModel):
    """A config section in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
