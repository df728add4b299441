/* What smtp-source and smtp-sink of Postfix 3.7 cannot do: a client that submits with STARTTLS and AUTH PLAIN, a server
 * that takes mail after STARTTLS. Both cost a fraction of what they measure.
 *
 *   tls_peer source PORT MESSAGES CONNECTIONS BYTES USER PASSWORD   one connection a message, TLS sessions resumed
 *   tls_peer sink PORT MESSAGES CERT KEY                            ends when it has MESSAGES
 *
 * Only for loopback: certificates are not verified.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER 16384

typedef struct {
    int socket;
    SSL *tls; /* NULL before the handshake */
    char data[BUFFER + 1];
    size_t held;
} Peer;

static SSL_CTX *context;
static int port, messages;
static char *content, *login, *sender;
static int taken; /* messages begun (source) or received (sink) */

static void fail(const char *what) {
    fprintf(stderr, "tls_peer: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void put(Peer *peer, const char *text, size_t size) {
    while (size) {
        ssize_t done = peer->tls ? SSL_write(peer->tls, text, size) : write(peer->socket, text, size);
        if (done <= 0)
            fail("cannot write");
        text += done;
        size -= done;
    }
}

static void say(Peer *peer, const char *text) { put(peer, text, strlen(text)); }

/* More bytes behind those that are held; 0 when the peer has closed. */
static int more(Peer *peer) {
    if (peer->held == BUFFER)
        fail("a line that is too long");
    ssize_t size = peer->tls ? SSL_read(peer->tls, peer->data + peer->held, BUFFER - peer->held)
                             : read(peer->socket, peer->data + peer->held, BUFFER - peer->held);
    if (size <= 0)
        return 0;
    peer->held += size;
    peer->data[peer->held] = 0;
    return 1;
}

/* Wait for the last line of a reply, which must begin with `code`. */
static void expect(Peer *peer, const char *code) {
    peer->held = 0;
    for (;;) {
        if (!more(peer))
            fail("the server has closed");
        if (peer->data[peer->held - 1] != '\n')
            continue;
        char *line = peer->data, *next;
        while ((next = strchr(line, '\n')) && next[1])
            line = next + 1;
        if (line[3] == '-')
            continue;
        if (strncmp(line, code, 3)) {
            fprintf(stderr, "tls_peer: wanted %s, got %s", code, line);
            exit(1);
        }
        return;
    }
}

static void *submit(void *unused) {
    (void)unused;
    SSL_SESSION *session = NULL;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const int one = 1;
    char mail[512];
    snprintf(mail, sizeof mail, "MAIL FROM:<%s>\r\n", sender);
    while (__atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED) <= messages) {
        Peer peer = {.socket = socket(AF_INET, SOCK_STREAM, 0)};
        if (connect(peer.socket, (struct sockaddr *)&to, sizeof to))
            fail("cannot connect");
        setsockopt(peer.socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        expect(&peer, "220");
        say(&peer, "EHLO client.example\r\n"), expect(&peer, "250");
        say(&peer, "STARTTLS\r\n"), expect(&peer, "220");
        SSL *tls = SSL_new(context);
        SSL_set_fd(tls, peer.socket);
        if (session)
            SSL_set_session(tls, session);
        if (SSL_connect(tls) != 1)
            fail("the handshake failed");
        peer.tls = tls;
        say(&peer, "EHLO client.example\r\n"), expect(&peer, "250");
        say(&peer, login), expect(&peer, "235");
        say(&peer, mail), expect(&peer, "250");
        say(&peer, "RCPT TO:<recipient@next.example>\r\n"), expect(&peer, "250");
        say(&peer, "DATA\r\n"), expect(&peer, "354");
        say(&peer, content), expect(&peer, "250");
        if (session)
            SSL_SESSION_free(session);
        session = SSL_get1_session(tls); /* TLS 1.3: its tickets have come by now */
        say(&peer, "QUIT\r\n"), expect(&peer, "221");
        SSL_set_shutdown(tls, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls);
        close(peer.socket);
    }
    return NULL;
}

static void source(char **argv) {
    int connections = atoi(argv[4]), size = atoi(argv[5]);
    messages = atoi(argv[3]);
    sender = argv[6];
    char plain[512];
    unsigned char coded[800];
    int length = snprintf(plain, sizeof plain, "%c%s%c%s", 0, argv[6], 0, argv[7]);
    EVP_EncodeBlock(coded, (unsigned char *)plain, length);
    login = malloc(1000);
    snprintf(login, 1000, "AUTH PLAIN %s\r\n", coded);
    content = malloc(size + 200);
    strcpy(content, "Subject: bench\r\n\r\n");
    for (size_t at = strlen(content); at < (size_t)size; at += 78)
        memset(content + at, 'x', 76), strcpy(content + at + 76, "\r\n");
    strcat(content, ".\r\n");
    context = SSL_CTX_new(TLS_client_method());
    pthread_t threads[connections];
    for (int at = 0; at < connections; at++)
        pthread_create(&threads[at], NULL, submit, NULL);
    for (int at = 0; at < connections; at++)
        pthread_join(threads[at], NULL);
}

/* The next line in peer->data, its length; 0 when the client has closed. drop() forgets it. */
static size_t line(Peer *peer) {
    char *end;
    while (!(end = memchr(peer->data, '\n', peer->held)))
        if (!more(peer))
            return 0;
    return end + 1 - peer->data;
}

static void drop(Peer *peer, size_t size) {
    memmove(peer->data, peer->data + size, peer->held -= size);
}

static void *receive(void *argument) {
    Peer peer = {.socket = (int)(long)argument};
    size_t size;
    int in_content = 0;
    say(&peer, "220 sink.example ESMTP\r\n");
    while ((size = line(&peer))) {
        const char *text = peer.data, *answer = "250 2.0.0 Ok\r\n";
        if (in_content) {
            if (size != 3 || memcmp(text, ".\r\n", 3)) {
                drop(&peer, size);
                continue;
            }
            in_content = 0;
            __atomic_add_fetch(&taken, 1, __ATOMIC_SEQ_CST);
        } else if (!strncasecmp(text, "EHLO", 4)) {
            answer = peer.tls ? "250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
                              : "250-sink.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n";
        } else if (!strncasecmp(text, "STARTTLS", 8)) {
            say(&peer, "220 2.0.0 Ready\r\n");
            SSL *tls = SSL_new(context);
            SSL_set_fd(tls, peer.socket);
            if (SSL_accept(tls) != 1)
                break;
            peer.tls = tls, peer.held = 0;
            continue;
        } else if (!strncasecmp(text, "DATA", 4)) {
            in_content = 1, answer = "354 Go\r\n";
        } else if (!strncasecmp(text, "QUIT", 4)) {
            say(&peer, "221 2.0.0 Bye\r\n");
            break;
        }
        drop(&peer, size);
        say(&peer, answer);
        if (taken >= messages)
            exit(0);
    }
    if (peer.tls)
        SSL_free(peer.tls);
    close(peer.socket);
    return NULL;
}

static void sink(char **argv) {
    static const int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    messages = atoi(argv[3]);
    context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, argv[4]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[5], SSL_FILETYPE_PEM) != 1)
        fail("cannot read the certificate");
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 1000))
        fail("cannot listen");
    for (;;) {
        int accepted = accept(listening, NULL, NULL);
        pthread_t thread;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_create(&thread, NULL, receive, (void *)(long)accepted);
        pthread_detach(thread);
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 8 && !strcmp(argv[1], "source"))
        port = atoi(argv[2]), source(argv);
    else if (argc == 6 && !strcmp(argv[1], "sink"))
        port = atoi(argv[2]), sink(argv);
    else
        fail("usage: tls_peer source PORT MESSAGES CONNECTIONS BYTES USER PASSWORD | sink PORT MESSAGES CERT KEY");
    return 0;
}
