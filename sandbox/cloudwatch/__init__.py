"""STAND-IN for what moto lacks of CloudWatch, for the sandbox only: it runs inside moto's process.

moto keeps alarms, metric filters and dashboards, and does nothing with them. This adds composite alarms and saved
queries, makes metrics of log events, evaluates alarms, and tells their topics.
"""
