/* An open-loop HTTP client: requests fall due at random (Poisson) times of a given rate, whether or not
 * the answers to earlier ones are there. A latency counts from the moment a request was due, so waiting
 * for a free connection is in it (no coordinated omission). wrk has no such mode, wrk2 and oha keep time
 * in whole milliseconds, which is more than most answers take. A connection that breaks counts with the
 * request that was on it, and is opened again; servers may close idle ones.
 *
 * Usage: openloop PORT FILE CONNECTIONS RATE SECONDS. FILE is as for requests.lua. Prints one line, as
 * requests.lua does. The answers must carry a Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_BYTES (1 << 16)
#define GRACE_S 5.0 /* how long answers may take after the last request was due */

typedef struct { char *data; size_t length; } Request;

typedef struct {
  int fd;
  double due;            /* of the request under way */
  const Request *request;
  size_t sent, got, want; /* want: the answer's whole length, 0 while its head is not there */
  int status;
  char answer[ANSWER_BYTES]; /* its beginning; what is beyond is counted, not kept */
} Connection;

static Request *requests;
static size_t request_count, next_request, failed, broken;

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void read_requests(const char *path) {
  FILE *file = fopen(path, "rb");
  size_t length;
  if (!file) die(path);
  while (fscanf(file, "%zu", &length) == 1) {
    Request one = {malloc(length), length};
    fgetc(file);
    if (fread(one.data, 1, length, file) != length) die("a request is cut short");
    requests = realloc(requests, (request_count + 1) * sizeof one);
    requests[request_count++] = one;
  }
  fclose(file);
  if (!request_count) { fprintf(stderr, "%s holds no request\n", path); exit(1); }
}

/* (Re)open a connection; what was on it is over. */
static void open_again(Connection *c, int poll, const struct sockaddr_in *to) {
  int one = 1;
  if (c->fd > 0) close(c->fd);
  c->request = NULL;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (const struct sockaddr *)to, sizeof *to)) die("connect");
  if (fcntl(c->fd, F_SETFL, O_NONBLOCK)) die("fcntl");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = c}};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

/* Write what is left of the request; 0 when the connection broke. */
static int push(Connection *c) {
  while (c->sent < c->request->length) {
    ssize_t n = write(c->fd, c->request->data + c->sent, c->request->length - c->sent);
    if (n < 0) return errno == EAGAIN;
    c->sent += n;
  }
  return 1;
}

/* Read what is there: 1 the answer is whole, 0 not yet, -1 the connection broke. */
static int pull(Connection *c) {
  static char beyond[ANSWER_BYTES];
  for (;;) {
    int fits = c->got < ANSWER_BYTES - 1;
    ssize_t n = fits ? read(c->fd, c->answer + c->got, ANSWER_BYTES - 1 - c->got)
                     : read(c->fd, beyond, sizeof beyond);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) return -1;
    c->got += n;
    if (!c->want) {
      c->answer[c->got] = 0;
      char *end = strstr(c->answer, "\r\n\r\n");
      char *length = end ? strcasestr(c->answer, "\r\ncontent-length:") : NULL;
      if (!end) continue;
      if (!length || length > end) return -1;
      c->status = atoi(c->answer + 9);
      c->want = end + 4 - c->answer + strtoull(length + 17, NULL, 10);
    }
    if (c->got >= c->want) return 1;
  }
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc != 6) { fprintf(stderr, "usage: openloop PORT FILE CONNECTIONS RATE SECONDS\n"); return 2; }
  read_requests(argv[2]);
  int count = atoi(argv[3]);
  double rate = atof(argv[4]), seconds = atof(argv[5]);
  size_t room = rate * seconds * 1.5 + 1000, arrived = 0, begun = 0, done = 0;
  double *due = malloc(room * sizeof *due), *latency = malloc(room * sizeof *latency);
  Connection *all = calloc(count, sizeof *all), **idle = malloc(count * sizeof *idle);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                           .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int poll = epoll_create1(0), free_count = 0;
  signal(SIGPIPE, SIG_IGN); /* a broken connection is an answer of write */
  prctl(PR_SET_TIMERSLACK, 1000); /* nanoseconds; the default adds 50 microseconds to a wait */
  for (int i = 0; i < count; i++) {
    Connection *c = &all[i];
    open_again(c, poll, &to);
    idle[free_count++] = c;
  }
  double start = now(), end = start + seconds, next = start, at;
  srand48(1);
  for (;;) {
    at = now();
    while (next <= at && next < end && arrived < room) {
      due[arrived++] = next;
      next += -log(1 - drand48()) / rate;
    }
    while (begun < arrived && free_count) {
      Connection *c = idle[--free_count];
      c->due = due[begun++];
      c->request = &requests[next_request++ % request_count];
      c->sent = c->got = c->want = 0;
      if (!push(c)) { broken++; open_again(c, poll, &to); idle[free_count++] = c; }
    }
    int over = next >= end || arrived >= room;
    if (over && (done + broken >= arrived || at > end + GRACE_S)) break;
    double wait = over ? 0.1 : next - at;
    if (wait < 0) wait = 0;
    struct timespec timeout = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
    struct epoll_event events[64];
    int n = epoll_pwait2(poll, events, 64, &timeout, NULL);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (!c->request) {
        if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) open_again(c, poll, &to);
        continue;
      }
      int state = push(c) ? pull(c) : -1;
      if (state < 0) { broken++; open_again(c, poll, &to); idle[free_count++] = c; }
      if (state < 1) continue;
      failed += c->status < 200 || c->status > 299;
      latency[done++] = now() - c->due;
      c->request = NULL;
      idle[free_count++] = c;
    }
  }
  broken += arrived - done - broken; /* what was never answered */
  qsort(latency, done, sizeof *latency, by_size);
#define AT(q) (done ? latency[(size_t)((done - 1) * (q))] * 1e6 : 0)
  printf("RESULT {\"requests\":%zu,\"seconds\":%.6f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
         "\"failed\":%zu,\"broken\":%zu}\n",
         done, at - start, AT(.5), AT(.99), AT(.999), failed, broken);
  return 0;
}
