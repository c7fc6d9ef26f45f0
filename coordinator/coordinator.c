#include "coordinator/coordinator.h"

#include "coordinator/courier.h"
#include "coordinator/dispatcher.h"
#include "coordinator/readers.h"
#include "coordinator/steward.h"
#include "proto/door.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "storage/catalog/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <zmq.h>

enum { LOCK_MS = 1000 };

/* What serving takes; made when the lock is ours, gone when it is not. */
struct service {
    void *zmq;
    struct door *door;
    struct dispatcher *dispatcher;
    struct steward *steward;
    struct courier *courier;
};

static bool is_stopped(const struct coordinator_options *options)
{
    return atomic_load(options->stop);
}

static void tell(const struct coordinator_options *options, const char *address)
{
    if (options->told != NULL)
        options->told(options->told_ctx, address);
}

static enum status begin(const struct coordinator_options *options, struct service *service,
                         struct error *err)
{
    struct dispatcher_options dispatch = {
        .endpoint = options->address, .keys = options->keys, .catalog_url = options->catalog_url};
    const struct courier_options courier = {.catalog_url = options->catalog_url};
    enum status st = ST_OK;

    service->zmq = zmq_ctx_new();
    if (service->zmq == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context: %s",
                         zmq_strerror(errno));
    dispatch.zmq = service->zmq;
    if (options->keys != NULL)
        st = door_open(service->zmq, options->allow_path, &service->door, err);
    if (st == ST_OK)
        st = dispatcher_create(&dispatch, &service->dispatcher, err);
    if (st == ST_OK)
        st = steward_start(options->catalog_url, &service->steward, err);
    if (st == ST_OK)
        st = courier_start(&courier, &service->courier, err);
    return st;
}

static void end(struct service *service)
{
    courier_stop(&service->courier);
    steward_stop(&service->steward);
    dispatcher_destroy(&service->dispatcher);
    door_close(&service->door);
    if (service->zmq != NULL)
        (void)zmq_ctx_term(service->zmq);
}

/* What a coordinator remembers from one try to the next. */
struct watch {
    struct catalog *lock;
    struct readers *readers; /* from the first look at the catalog on, serving or not */
    bool has_waited; /* stood by, or served: from then on it never gives up what may work later */
    bool told;       /* that it stands by */
};

/* As long as the lock is ours. */
static enum status serve(const struct coordinator_options *options, struct watch *watch,
                         struct error *err)
{
    struct service service = {0};
    enum status st = begin(options, &service, err);

    if (st == ST_OK) {
        watch->has_waited = true;
        tell(options, dispatcher_address(service.dispatcher));
    }
    while (st == ST_OK && !is_stopped(options)) {
        clock_sleep_ms(LOCK_MS, options->stop);
        if (dispatcher_verdict(service.dispatcher) == DISPATCHER_BROKEN) {
            *err = *dispatcher_error(service.dispatcher);
            st = err->code;
        } else if (!is_stopped(options)) {
            st = catalog_coordinate(watch->lock, err);
        }
    }
    end(&service);
    return st;
}

/* Serves if it may. On failure the lock is given back: perhaps another one can. */
static enum status try_to_serve(const struct coordinator_options *options, struct watch *watch,
                                struct error *err)
{
    enum status st = ST_OK;

    if (watch->lock == NULL)
        st = catalog_open(options->catalog_url, &watch->lock, err);
    if (st == ST_OK && watch->readers == NULL)
        st = readers_start(options->catalog_url, &watch->readers, err);
    if (st == ST_OK)
        st = catalog_coordinate(watch->lock, err);
    if (st != ST_OK)
        return st;
    watch->told = false;
    st = serve(options, watch, err);
    catalog_close(&watch->lock);
    return st;
}

/* A descriptor for every worker, where the system's default is 1024 for all. */
static void raise_file_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

enum status coordinator_run(const struct coordinator_options *options, struct error *err)
{
    struct watch watch = {0};
    enum status st = ST_OK;

    raise_file_limit();
    while (!is_stopped(options)) {
        st = try_to_serve(options, &watch, err);
        if (st == ST_OK)
            break;
        if (st == ST_CONFLICT && !watch.told) {
            watch.told = watch.has_waited = true;
            log_at(LOG_INFO, "standing_by", "cause=\"%s\"", err->message);
            tell(options, NULL);
        } else if (st != ST_CONFLICT) {
            if (!watch.has_waited || !status_is_retryable(st))
                break;
            log_at(LOG_WARN, "not_serving", "cause=\"%s\"", err->message);
        }
        st = ST_OK;
        clock_sleep_ms(LOCK_MS, options->stop);
    }
    readers_stop(&watch.readers);
    catalog_close(&watch.lock);
    return st;
}
