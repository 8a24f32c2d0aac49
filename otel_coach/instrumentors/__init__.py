"""One room per phenomenon; none knows another. They speak to the recorder and the OpenTelemetry
API only, never to the SDK.
"""
