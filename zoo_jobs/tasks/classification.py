"""The task classification: a model names the class of an image. Pure."""

from .contract import Task

ROW = Task("the class of an image, from its pixels", outputs="classes")
