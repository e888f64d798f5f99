"""Observers that inform other services about a run: trackers (TensorBoard, MLflow) and a webhook.

Public: `trackers.trackers_from`, `trackers.attach_report`, `webhook.webhook_from`.
"""
