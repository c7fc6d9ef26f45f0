#include "coordinator/curator/service.h"

#include "coordinator/curator/outgoing.h"
#include "coordinator/curator/selection_log.h"
#include "coordinator/curator/selectors.h"
#include "proto/door.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    N_REMEMBERED = 64,
    MAX_INSIDE = 1024,  /* tasks with the selectors */
    MAX_WAITING = 1024, /* before them, whatever their bytes */
    MAX_MESSAGES = 16,  /* received before anything else is looked at */
    MAX_RECEIVED = 4,   /* whole requests of a trainer in the socket */
    MAX_SENT = 256,     /* answers that it has not read */
    LINGER_MS = 5000,
    LOOK_MS = 200, /* at *stop */
    NS_A_MS = 1000000,
};

/* All of it is the calling thread's. */
struct service {
    const struct curator_service_options *options;
    void *zmq, *socket; /* ROUTER */
    struct door *door;
    struct selectors *selectors;
    struct curator *fallback;      /* for those that wait too long */
    struct task *waiting, *inside; /* the latter with the selectors */
    size_t waiting_bytes, n_waiting, n_inside, n_running;
    struct answers answers;
    struct curator_status_reply counts;
    int64_t began_ms;
};

static void refuse(struct service *s, const struct task *task, const char *reason)
{
    struct byte_buf message;
    struct error err;

    s->counts.n_refused++;
    if ((s->counts.n_refused & (s->counts.n_refused - 1)) == 0) /* its number doubles */
        log_at(LOG_WARN, "message_refused", "n=%" PRIu64 " cause=\"%s\"", s->counts.n_refused,
               reason);
    byte_buf_init(&message, ENDPOINT_MAX_MESSAGE);
    outgoing_message(s->socket, task, "refused", curator_refused_encode(reason, &message, &err),
                     &message, &err);
}

static void count_computed(const struct service *s, struct curator_status_reply *reply)
{
    struct teacher_counts counts;

    if (s->options->teacher == NULL)
        return;
    counts = teacher_process_count(s->options->teacher);
    reply->n_examples = counts.n_examples;
    reply->n_rows_found = counts.n_found;
    reply->n_rows_unknown = counts.n_unknown;
    reply->n_rows_computed = counts.n_computed;
    reply->n_rows_bad = counts.n_bad;
    reply->n_rows_failed = counts.n_failed;
    reply->n_rows_wanted = counts.n_wanted;
    reply->n_teacher_deaths = counts.n_deaths;
    reply->compute_ms = counts.compute_ms;
}

static void send_status(struct service *s, const struct task *task)
{
    const struct curator_references *references = s->options->references;
    struct curator_status_reply reply = s->counts;
    struct byte_buf message;
    struct error err;

    reply.uptime_ms = (uint64_t)(clock_monotonic_ms() - s->began_ms);
    (void)snprintf(reply.version, sizeof reply.version, "%s", s->options->version);
    if (references != NULL) {
        (void)snprintf(reply.reference_version, sizeof reply.reference_version, "%s",
                       references->version);
        reply.n_references = references->n;
    }
    if (s->options->log != NULL)
        selection_log_count(s->options->log, &reply.n_logged, &reply.n_not_logged);
    reply.n_not_logged += s->counts.n_not_logged;
    count_computed(s, &reply);
    reply.n_running = s->n_running;
    reply.n_waiting = s->n_waiting;
    byte_buf_init(&message, ENDPOINT_MAX_MESSAGE);
    outgoing_message(s->socket, task, task_kind_name(TASK_STATUS),
                     curator_status_reply_encode(&reply, &message, &err), &message, &err);
}

static void send_probe(struct service *s, const struct task *task)
{
    const struct curator_probe_reply *reply = &task->probed;
    struct byte_buf message;
    struct error err;

    s->counts.n_probes++;
    s->counts.n_alarms += reply->alarm;
    log_at(reply->alarm ? LOG_WARN : LOG_INFO, "probe",
           "job=\"%s\" step=%" PRIu64 " staleness=%" PRIu64
           " sigma=%.4g spearman=%.4f overlap=%.4f alarm=%d",
           reply->job, reply->step, reply->staleness, reply->sigma, reply->spearman, reply->overlap,
           reply->alarm);
    byte_buf_init(&message, ENDPOINT_MAX_MESSAGE);
    outgoing_message(s->socket, task, task_kind_name(TASK_PROBE),
                     curator_probe_reply_encode(reply, &message, &err), &message, &err);
}

static void count_answer(struct service *s, const struct curator_answer *answer)
{
    struct curator_status_reply *counts = &s->counts;
    uint64_t *by_cause[] = {[ANSWER_LATE] = &counts->n_fallback_deadline,
                            [ANSWER_NO_REFERENCE] = &counts->n_fallback_reference,
                            [ANSWER_BUSY] = &counts->n_fallback_busy};

    if (answer->status == CURATOR_FALLBACK_UNIFORM)
        (*by_cause[answer->cause])++;
    counts->n_ok += answer->status == CURATOR_OK;
    counts->n_partial += answer->status == CURATOR_OK_PARTIAL;
    counts->n_rejected += answer->status == CURATOR_REJECTED;
    counts->select_ms += answer->select_ms;
    counts->n_rows_missing += answer->n_without_reference;
    log_at(answer->status == CURATOR_FALLBACK_UNIFORM ? LOG_WARN : LOG_INFO,
           answer->status == CURATOR_FALLBACK_UNIFORM ? "fallback" : "selection",
           "job=\"%s\" super_batch=%" PRIu64 " status=%d cause=%d ms=%" PRIu64, answer->job,
           answer->super_batch, (int)answer->status, (int)answer->cause, answer->select_ms);
}

/* Answers a task that came out of the selectors. */
static void finish(struct service *s, struct task *task)
{
    if (task->kind == TASK_PROBE && task->status == ST_OK) {
        send_probe(s, task);
    } else if (task->status != ST_OK) {
        refuse(s, task, task->err.message);
    } else {
        const struct curator_answer *answer = &task->answer;

        count_answer(s, answer);
        if (answer->status != CURATOR_REJECTED) /* or it could not be asked in a better way */
            answer = answers_keep(&s->answers, &task->answer);
        outgoing_answer(s->socket, task, answer);
    }
    task_destroy(&task);
}

static void finish_all(struct service *s)
{
    struct task *task;

    while ((task = selectors_pop(s->selectors)) != NULL) {
        struct task **at = &s->inside;

        while (*at != task)
            at = &(*at)->next;
        *at = task->next;
        s->n_inside--;
        s->n_running -= task->is_selected;
        finish(s, task);
    }
}

static void put_inside(struct service *s, struct task *task)
{
    task->next = s->inside;
    s->inside = task;
    s->n_inside++;
}

/* Uniformly, and at once: a millisecond for every 10,000 examples. */
static void answer_uniformly(struct service *s, struct task *task, enum answer_cause cause,
                             const char *reason)
{
    task->status =
        curator_answer(s->fallback, &task->request.select, task->received_ns,
                       (struct curator_fallback){cause, reason}, &task->answer, &task->err);
    if (s->n_inside < MAX_INSIDE) {
        put_inside(s, task);
        selectors_push_answered(s->selectors, task);
    } else {
        s->counts.n_not_logged += s->options->log != NULL;
        finish(s, task);
    }
}

/* A request that is being answered under the same name. */
static struct task *find_twin(struct task *list, const struct task *task)
{
    for (; list != NULL; list = list->next)
        if (list->kind == TASK_SELECT &&
            list->request.select.super_batch == task->request.select.super_batch &&
            strcmp(list->request.select.job, task->request.select.job) == 0)
            return list;
    return NULL;
}

static void enqueue(struct service *s, struct task *task)
{
    struct task **end = &s->waiting;

    while (*end != NULL)
        end = &(*end)->next;
    task->next = NULL;
    *end = task;
    s->waiting_bytes += task->bytes;
    s->n_waiting++;
}

/* Whether one more would wait for long, with too much. */
static bool is_full(const struct service *s, const struct task *task)
{
    return (s->n_running >= s->options->n_selectors || s->n_waiting > 0) &&
           (s->n_waiting == MAX_WAITING ||
            s->waiting_bytes + task->bytes > s->options->max_waiting_bytes);
}

static void limit_deadline(const struct service *s, struct task *task)
{
    int64_t most_ms = s->options->deadline_ms;
    uint32_t *asked_ms = &task->request.select.deadline_ms;

    if (most_ms == 0 || (*asked_ms != 0 && *asked_ms <= most_ms))
        return;
    *asked_ms = (uint32_t)most_ms;
    task->deadline_ns = task->received_ns + most_ms * NS_A_MS;
}

/* A task that waits takes over an earlier deadline of its twin's. */
static void hasten(struct task *task, const struct task *twin)
{
    if (twin->deadline_ns == 0 ||
        (task->deadline_ns != 0 && task->deadline_ns <= twin->deadline_ns))
        return;
    task->deadline_ns = twin->deadline_ns;
    task->received_ns = twin->received_ns;
    task->request.select.deadline_ms = twin->request.select.deadline_ms;
}

/* Whether a request was asked before, or is being asked by somebody else. */
static bool is_repeated(struct service *s, struct task *task)
{
    const struct curator_request *request = &task->request.select;
    const struct curator_answer *answer =
        answers_find(&s->answers, request->job, request->super_batch);
    struct task *waits = find_twin(s->waiting, task), *inside = find_twin(s->inside, task);

    if (answer != NULL) {
        outgoing_answer(s->socket, task, answer);
    } else if (waits != NULL) {
        task_add_peer(waits, &task->peers[0]);
        hasten(waits, task);
    } else if (inside != NULL) {
        task_add_peer(inside, &task->peers[0]);
    }
    return answer != NULL || waits != NULL || inside != NULL;
}

static void take_select(struct service *s, struct task *task)
{
    limit_deadline(s, task);
    if (is_repeated(s, task)) {
        s->counts.n_repeated++;
        task_destroy(&task);
    } else if (is_full(s, task)) {
        answer_uniformly(s, task, ANSWER_BUSY, "too many requests are waiting");
    } else {
        task_want_references(task, s->options->teacher);
        enqueue(s, task);
    }
}

/* ST_FULL: nothing is there. */
static enum status receive(struct service *s, struct error *err)
{
    struct task *task;
    enum status st = task_receive(s->socket, &task, err);

    if (task == NULL)
        return st;
    if (st == ST_OK && task->bytes > s->options->max_request_bytes)
        st = error_set(err, ST_CORRUPT, "the request has %zu bytes; at most %zu are taken",
                       task->bytes, s->options->max_request_bytes);
    if (st == ST_OK && task->n_peers == 0)
        st = error_set(err, ST_NO_MEMORY, "could not remember who has asked");
    if (st == ST_OK && task->kind == TASK_PROBE && is_full(s, task))
        st = error_set(err, ST_FULL, "too many requests are waiting");
    if (st != ST_OK) {
        refuse(s, task, err->message);
    } else if (task->kind == TASK_SELECT) {
        take_select(s, task);
        return ST_OK;
    } else if (task->kind == TASK_PROBE) {
        task_want_references(task, s->options->teacher);
        enqueue(s, task);
        return ST_OK;
    } else {
        send_status(s, task);
    }
    task_destroy(&task);
    return ST_OK;
}

/* What waits goes to selectors that are free, the oldest first; what has waited too long does not.
 */
static void hand_out(struct service *s, bool is_leaving)
{
    int64_t now = clock_monotonic_ns();
    struct task **at = &s->waiting;

    while (*at != NULL) {
        struct task *task = *at;
        bool is_late = task->deadline_ns != 0 && now >= task->deadline_ns;

        if (!is_late && !is_leaving &&
            (s->n_running >= s->options->n_selectors || task_waits_for_references(task, now))) {
            at = &task->next;
            continue;
        }
        *at = task->next;
        s->waiting_bytes -= task->bytes;
        s->n_waiting--;
        if (task->kind == TASK_SELECT && (is_late || is_leaving)) {
            answer_uniformly(s, task, is_late ? ANSWER_LATE : ANSWER_BUSY,
                             is_late ? "the deadline has passed before the selection began"
                                     : "the curator is leaving");
        } else if (is_leaving) {
            refuse(s, task, "the curator is leaving");
            task_destroy(&task);
        } else {
            task->is_selected = true;
            s->n_running++;
            put_inside(s, task);
            selectors_push(s->selectors, task);
        }
    }
}

static long wait_ms(const struct service *s)
{
    int64_t now = clock_monotonic_ns(), ms = LOOK_MS;

    for (const struct task *task = s->waiting; task != NULL; task = task->next)
        if (task->deadline_ns != 0) {
            int64_t until = task_waits_for_references(task, now) ? task_wanted_until_ns(task)
                                                                 : task->deadline_ns;

            ms = MIN(ms, MAX((until - now) / NS_A_MS + 1, (int64_t)0));
        }
    return (long)ms;
}

static enum status serve(struct service *s, struct error *err)
{
    enum status st = ST_OK;

    while (st == ST_OK && !atomic_load(s->options->stop)) {
        zmq_pollitem_t items[] = {{.socket = s->socket, .events = ZMQ_POLLIN},
                                  {.fd = selectors_fd(s->selectors), .events = ZMQ_POLLIN},
                                  {.events = ZMQ_POLLIN}};

        if (s->options->teacher != NULL)
            items[2].fd = teacher_process_fd(s->options->teacher);
        (void)zmq_poll(items, s->options->teacher != NULL ? 3 : 2, wait_ms(s));
        if (s->options->teacher != NULL)
            teacher_process_heard(s->options->teacher);
        finish_all(s);
        hand_out(s, false);
        for (int m = 0; m < MAX_MESSAGES && st == ST_OK; m++) {
            st = receive(s, err);
            if (st == ST_NO_MEMORY) { /* of one message; the next may be smaller */
                log_at(LOG_WARN, "not_received", "cause=\"%s\"", err->message);
                st = ST_OK;
            }
            hand_out(s, false);
        }
        st = st == ST_FULL ? ST_OK : st;
    }
    hand_out(s, true);
    return st;
}

static enum status begin(struct service *s, struct error *err)
{
    const struct curator_service_options *options = s->options;
    const struct curator_options select = {.references = options->references,
                                           .n_threads = options->n_threads,
                                           .max_bytes = options->max_selection_bytes};
    const struct endpoint_limits limits = {.max_frame_bytes = (int64_t)options->max_request_bytes,
                                           .max_received = MAX_RECEIVED,
                                           .max_sent = MAX_SENT,
                                           .linger_ms = LINGER_MS};
    char address[256];
    enum status st = answers_init(&s->answers, N_REMEMBERED, err);

    s->began_ms = clock_monotonic_ms();
    s->zmq = zmq_ctx_new();
    if (st == ST_OK && s->zmq == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context: %s",
                       zmq_strerror(errno));
    if (st == ST_OK && options->keys != NULL)
        st = door_open(s->zmq, options->allow_path, &s->door, err);
    if (st == ST_OK)
        st = curator_create(&select, &s->fallback, err);
    if (st == ST_OK)
        st = selectors_start(&select, options->n_selectors, MAX_INSIDE, options->log, &s->selectors,
                             err);
    if (st == ST_OK)
        st = endpoint_bind(s->zmq, options->address, options->keys, &limits, &s->socket, err);
    if (st == ST_OK)
        st = endpoint_bound(s->socket, address, err);
    if (st == ST_OK && options->told != NULL)
        options->told(options->told_ctx, address);
    return st;
}

/* Replies to what is in flight are sent, then the socket gives them time to leave. */
static void end(struct service *s)
{
    if (s->selectors != NULL) {
        selectors_stop(s->selectors);
        finish_all(s);
    }
    selectors_destroy(&s->selectors);
    curator_destroy(&s->fallback);
    if (s->socket != NULL)
        (void)zmq_close(s->socket);
    door_close(&s->door);
    if (s->zmq != NULL)
        (void)zmq_ctx_term(s->zmq);
    answers_release(&s->answers);
}

enum status curator_service_run(const struct curator_service_options *options, struct error *err)
{
    struct service service = {.options = options};
    enum status st = begin(&service, err);

    if (st == ST_OK)
        st = serve(&service, err);
    end(&service);
    return st;
}
