"""One room per phenomenon; none knows another.

They speak to the recorder and to the OpenTelemetry API only, never to the SDK.
"""
