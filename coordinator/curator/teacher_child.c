#include "coordinator/curator/teacher_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { LOOK_MS = 200, EXIT_CODE_USAGE = 2 };

static enum status spawn(const char *const *argv, int end, pid_t *pid, struct error *err)
{
    /* posix_spawn takes strings it could change, and does not */
    union {
        const char *const *in;
        char *const *out;
    } cast = {.in = argv};
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);

    if (failed == 0) {
        failed = posix_spawn_file_actions_adddup2(&actions, end, STDIN_FILENO);
        if (failed == 0)
            failed = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        if (failed == 0)
            failed = posix_spawn(pid, "/proc/self/exe", &actions, NULL, cast.out, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    errno = failed;
    return failed == 0
               ? ST_OK
               : error_set_errno(err, ST_UNAVAILABLE, "could not start a teacher's process");
}

enum status teacher_child_start(const char *const *argv, struct teacher_child *child,
                                struct error *err)
{
    int ends[2];
    enum status st;

    *child = (struct teacher_child){0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not make a socket");
    for (int e = 0; e < 2; e++)
        (void)fcntl(ends[e], F_SETFD, FD_CLOEXEC);
    st = spawn(argv, ends[1], &child->pid, err);
    (void)close(ends[1]);
    if (st == ST_OK) {
        child->socket = ends[0];
    } else {
        (void)close(ends[0]);
        child->pid = 0;
    }
    return st;
}

static enum status hear(const struct teacher_child *child, void *out, size_t bytes,
                        struct error *err)
{
    ssize_t n;

    do /* a reset is told once, and before what it had said: it died with something unread */
        n = recv(child->socket, out, bytes, MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return ST_FULL;
    if (n <= 0)
        return ST_END;
    return (size_t)n == bytes ? ST_OK
                              : error_set(err, ST_CORRUPT,
                                          "a teacher's process said %zd bytes, "
                                          "expected %zu",
                                          n, bytes);
}

enum status teacher_child_hear(const struct teacher_child *child, struct teacher_said *said,
                               struct error *err)
{
    return hear(child, said, sizeof *said, err);
}

enum status teacher_child_hear_hello(const struct teacher_child *child, struct teacher_hello *hello,
                                     struct error *err)
{
    return hear(child, hello, sizeof *hello, err);
}

enum status teacher_child_await_hello(struct teacher_child *child, const atomic_bool *stop,
                                      struct teacher_hello *hello, struct error *err)
{
    enum status st = ST_FULL;
    int ended;

    while (st == ST_FULL) {
        struct pollfd item = {.fd = child->socket, .events = POLLIN};

        if (stop != NULL && atomic_load(stop))
            return error_set(err, ST_CANCELLED, "told to stop");
        (void)poll(&item, 1, LOOK_MS);
        st = teacher_child_hear_hello(child, hello, err);
    }
    if (st != ST_END)
        return st;
    (void)waitpid(child->pid, &ended, 0);
    child->pid = 0;
    (void)teacher_child_end(child);
    st = WIFEXITED(ended) && WEXITSTATUS(ended) == EXIT_CODE_USAGE ? ST_INVALID : ST_UNAVAILABLE;
    return error_set(err, st, "the teacher's process could not begin; it has said why above");
}

bool teacher_child_give(const struct teacher_child *child, uint64_t place)
{
    return send(child->socket, &place, sizeof place, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof place;
}

int teacher_child_end(struct teacher_child *child)
{
    int ended = 0;

    if (child->pid > 0) {
        (void)kill(child->pid, SIGKILL);
        (void)waitpid(child->pid, &ended, 0);
    }
    if (child->socket > 0)
        (void)close(child->socket);
    *child = (struct teacher_child){0};
    return ended;
}
