/* What smtp-source cannot do: send given messages, one connection for each, from an address that is not the server's own
 * network. As smtp-source does, one thread plays all connections: it costs a fraction of what it measures, and it is
 * seldom asleep when the server writes, which would make the server's writes dear.
 *
 *   mail_client FROM_ADDRESS PORT MESSAGES CONNECTIONS HELO SENDER RECIPIENT FILE...
 *
 * The files hold whole messages with CRLF and dots doubled, without the final dot; they are sent in turn. Only for
 * loopback.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define STEPS 7

typedef struct {
    const char *data;
    size_t size;
} Text;

typedef struct {
    int socket, step; /* of the dialogue: which reply is waited for */
    const Text *message;
    Text out; /* not written yet */
    char reply[4096];
    size_t held;
} Peer;

static const char *wanted[STEPS] = {"220", "250", "250", "250", "354", "250", "221"};
static struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
static Text *contents, says[STEPS]; /* what follows each reply; the message stands in for that to 354 */
static int events, files, messages, begun, ended;

static void fail(const char *what) {
    fprintf(stderr, "mail_client: %s\n", what);
    exit(1);
}

static void watch(Peer *peer, int operation, unsigned what) {
    struct epoll_event event = {.events = what, .data.ptr = peer};
    if (epoll_ctl(events, operation, peer->socket, &event))
        fail("cannot wait for the server");
}

static void begin(Peer *peer) {
    static const int one = 1;
    memset(peer, 0, offsetof(Peer, reply));
    peer->held = 0;
    peer->message = &contents[begun++ % files];
    peer->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(peer->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(peer->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(peer->socket, (struct sockaddr *)&from, sizeof from) ||
        (connect(peer->socket, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS))
        fail("cannot connect");
    watch(peer, EPOLL_CTL_ADD, EPOLLIN);
}

static void flush(Peer *peer, int waiting) {
    while (peer->out.size) {
        ssize_t done = write(peer->socket, peer->out.data, peer->out.size);
        if (done < 0 && errno == EAGAIN) {
            if (!waiting)
                watch(peer, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (done <= 0)
            fail("cannot write");
        peer->out.data += done, peer->out.size -= done;
    }
    if (waiting)
        watch(peer, EPOLL_CTL_MOD, EPOLLIN);
}

/* Whether the last line of a reply is there. It must begin with the code that is wanted. */
static int replied(Peer *peer) {
    ssize_t size = read(peer->socket, peer->reply + peer->held, sizeof peer->reply - 1 - peer->held);
    if (size < 0 && errno == EAGAIN)
        return 0;
    if (size <= 0)
        fail("the server has closed");
    peer->held += size;
    peer->reply[peer->held] = 0;
    if (peer->reply[peer->held - 1] != '\n')
        return 0;
    char *line = peer->reply, *next;
    while ((next = strchr(line, '\n')) && next[1])
        line = next + 1;
    if (line[3] == '-')
        return 0;
    if (strncmp(line, wanted[peer->step], 3)) {
        fprintf(stderr, "mail_client: wanted %s, got %s", wanted[peer->step], line);
        exit(1);
    }
    peer->held = 0;
    return 1;
}

static void go_on(Peer *peer, unsigned what) {
    if (what & EPOLLOUT)
        flush(peer, 1);
    if (!(what & ~EPOLLOUT) || !replied(peer))
        return;
    if (++peer->step == STEPS) {
        close(peer->socket);
        ended++;
        if (begun < messages)
            begin(peer);
        return;
    }
    peer->out = peer->step == 5 ? *peer->message : says[peer->step - 1];
    flush(peer, 0);
}

static Text read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail("cannot read a message");
    size_t size = ftell(file);
    char *data = malloc(size + 3);
    rewind(file);
    if (fread(data, 1, size, file) != size)
        fail("cannot read a message");
    fclose(file);
    memcpy(data + size, ".\r\n", 3);
    return (Text){data, size + 3};
}

static Text command(const char *format, const char *argument) {
    char *data = malloc(600);
    int size = snprintf(data, 600, format, argument);
    return (Text){data, size};
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc < 9)
        fail("usage: mail_client FROM_ADDRESS PORT MESSAGES CONNECTIONS HELO SENDER RECIPIENT FILE...");
    if (inet_pton(AF_INET, argv[1], &from.sin_addr) != 1)
        fail("not an address");
    to.sin_port = htons(atoi(argv[2]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    messages = atoi(argv[3]);
    int connections = atoi(argv[4]);
    says[0] = command("EHLO %s\r\n", argv[5]);
    says[1] = command("MAIL FROM:<%s>\r\n", argv[6]);
    says[2] = command("RCPT TO:<%s>\r\n", argv[7]);
    says[3] = command("DATA\r\n%s", "");
    says[5] = command("QUIT\r\n%s", "");
    files = argc - 8;
    contents = malloc(files * sizeof *contents);
    for (int at = 0; at < files; at++)
        contents[at] = read_file(argv[8 + at]);
    events = epoll_create1(0);
    Peer *peers = calloc(connections, sizeof *peers);
    for (int at = 0; at < connections && begun < messages; at++)
        begin(&peers[at]);
    while (ended < messages) {
        struct epoll_event ready[64];
        int count = epoll_wait(events, ready, 64, -1);
        for (int at = 0; at < count; at++)
            go_on(ready[at].data.ptr, ready[at].events);
    }
    return 0;
}
