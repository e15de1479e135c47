"""The presence service: who is online, as JSON over TCP.

server       the service: connections, answers, pushed news
client       watches friends at a service
costs        what a connection costs, and who has to wait
news         the changes that wait for one watcher
roster       who is online, and who watches whom; shared with a chat
messages     requests and answers
tcp          its sockets, which send without waiting
json_stream  JSON objects in a stream of bytes
"""
