"""The gateway: tasks over REST, Server-Sent Events and Connect, for web programs and browsers."""
