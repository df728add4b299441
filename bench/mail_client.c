/* What smtp-source cannot do: send given messages, one connection for each, from an address that is not the server's own
 * network. It costs a fraction of what it measures.
 *
 *   mail_client FROM_ADDRESS PORT MESSAGES CONNECTIONS HELO SENDER RECIPIENT FILE...
 *
 * The files hold whole messages with CRLF and dots doubled, without the final dot; they are sent in turn. Only for
 * loopback.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct {
    char *data;
    size_t size;
} Message;

static struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
static Message *contents;
static int files, messages, taken;
static char hello[300], mail[300], recipient[300];

static void fail(const char *what) {
    fprintf(stderr, "mail_client: %s\n", what);
    exit(1);
}

static void put(int socket, const char *text, size_t size) {
    while (size) {
        ssize_t done = write(socket, text, size);
        if (done <= 0)
            fail("cannot write");
        text += done, size -= done;
    }
}

/* Wait for the last line of a reply, which must begin with `code`. */
static void expect(int socket, const char *code) {
    char data[4096];
    size_t held = 0;
    for (;;) {
        ssize_t size = read(socket, data + held, sizeof data - 1 - held);
        if (size <= 0)
            fail("the server has closed");
        held += size;
        data[held] = 0;
        if (data[held - 1] != '\n')
            continue;
        char *line = data, *next;
        while ((next = strchr(line, '\n')) && next[1])
            line = next + 1;
        if (line[3] == '-')
            continue;
        if (strncmp(line, code, 3)) {
            fprintf(stderr, "mail_client: wanted %s, got %s", code, line);
            exit(1);
        }
        return;
    }
}

static void say(int socket, const char *text, const char *code) {
    put(socket, text, strlen(text));
    expect(socket, code);
}

static void *submit(void *unused) {
    static const int one = 1;
    int number;
    (void)unused;
    while ((number = __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED)) < messages) {
        Message *message = &contents[number % files];
        int peer = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(peer, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(peer, (struct sockaddr *)&from, sizeof from) || connect(peer, (struct sockaddr *)&to, sizeof to))
            fail("cannot connect");
        expect(peer, "220");
        say(peer, hello, "250");
        say(peer, mail, "250");
        say(peer, recipient, "250");
        say(peer, "DATA\r\n", "354");
        put(peer, message->data, message->size);
        say(peer, ".\r\n", "250");
        say(peer, "QUIT\r\n", "221");
        close(peer);
    }
    return NULL;
}

static Message read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    Message message = {NULL, 0};
    if (!file || fseek(file, 0, SEEK_END))
        fail("cannot read a message");
    message.size = ftell(file);
    message.data = malloc(message.size);
    rewind(file);
    if (fread(message.data, 1, message.size, file) != message.size)
        fail("cannot read a message");
    fclose(file);
    return message;
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
    snprintf(hello, sizeof hello, "EHLO %s\r\n", argv[5]);
    snprintf(mail, sizeof mail, "MAIL FROM:<%s>\r\n", argv[6]);
    snprintf(recipient, sizeof recipient, "RCPT TO:<%s>\r\n", argv[7]);
    files = argc - 8;
    contents = malloc(files * sizeof *contents);
    for (int at = 0; at < files; at++)
        contents[at] = read_file(argv[8 + at]);
    pthread_t threads[connections];
    for (int at = 0; at < connections; at++)
        pthread_create(&threads[at], NULL, submit, NULL);
    for (int at = 0; at < connections; at++)
        pthread_join(threads[at], NULL);
    return 0;
}
