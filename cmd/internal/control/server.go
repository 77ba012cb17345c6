package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
)

// Serve answers on l until ctx ends, then closes it. What HTTP itself has to
// complain of goes to no log: a stranger at the socket is not news.
func Serve(ctx context.Context, l net.Listener, g Gateway) error {
	waiting := make(chan struct{}, maxWaiting)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) {
		status, err := g.Status(r.Context())
		if err != nil {
			refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		answer(w, http.StatusOK, status)
	})
	mux.HandleFunc("POST "+upPath, order(g, g.Up))
	mux.HandleFunc("POST "+downPath, order(g, g.Down))
	mux.HandleFunc("POST "+rekeyPath, order(g, g.Rekey))
	mux.HandleFunc("POST "+rekeyIKE, order(g, g.RekeyIKE))
	mux.HandleFunc("POST "+handover, func(w http.ResponseWriter, r *http.Request) {
		if err := g.Handover(r.Context()); err != nil {
			refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		answer(w, http.StatusOK, struct{}{})
	})
	mux.HandleFunc("POST "+movePath, orderOf(g, func(ctx context.Context, in request) error { return g.Move(ctx, in.Tunnel, in.Plane) }))
	groupRoutes(mux, g)
	handler := http.TimeoutHandler(mux, patience, `{"error":"the gateway did not answer in time"}`)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !admitted(r.Context()) {
				refuse(w, http.StatusForbidden, errors.New("only root and the gateway's own user may ask"))
				return
			}
			select {
			case waiting <- struct{}{}:
				defer func() { <-waiting }()
			default:
				refuse(w, http.StatusServiceUnavailable, errors.New("too many requests at a time: try again"))
				return
			}
			handler.ServeHTTP(w, r)
		}),
		ConnContext:       withPeer,
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: patience,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// Whoever asked us to end gets an answer.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		if s.Shutdown(last) != nil {
			s.Close()
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// order reads which tunnel is meant and does it.
func order(g Gateway, do func(ctx context.Context, tunnel string) error) http.HandlerFunc {
	return orderOf(g, func(ctx context.Context, in request) error { return do(ctx, in.Tunnel) })
}

// orderOf reads an order and does it.
func orderOf(g Gateway, do func(ctx context.Context, in request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in request
		if err := readOne(w, r, &in); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		if in.Tunnel == "" {
			refuse(w, http.StatusBadRequest, errors.New("name a tunnel"))
			return
		}
		switch err := do(r.Context(), in); {
		case errors.Is(err, ErrUnknownTunnel):
			refuse(w, http.StatusNotFound, err)
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, err)
		default:
			answer(w, http.StatusOK, done{g.Remark(in.Tunnel)})
		}
	}
}

// readOne reads the one value that a request is.
func readOne(w http.ResponseWriter, r *http.Request, in any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return fmt.Errorf("the request is not understood: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the request is not understood: more than one value")
	}
	return nil
}

func refuse(w http.ResponseWriter, code int, err error) { answer(w, code, problem{err.Error()}) }

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(code)
	// An error here is a peer that went away: there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
