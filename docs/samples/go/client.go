// Package ocpclient brings a task of OCP to its end: it retries each subtask that has failed.
package ocpclient

import (
	"encoding/json"
	"fmt"
	"net/http"
)

type Task struct {
	Status   string `json:"status"`
	Subtasks []struct {
		ID     int    `json:"id"`
		Status string `json:"status"`
	} `json:"subtasks"`
}

func call(method, url string, data any) error {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth("manager", "manager")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(&struct{ Data any }{data})
}

// BringToSuccess polls a task, at most so many times, and retries what has failed. Between polls, wait calls a sleep.
func BringToSuccess(url string, polls int, wait func()) error {
	for ; polls > 0; polls-- {
		var task Task
		if err := call("GET", url, &task); err != nil {
			return err
		}
		if task.Status == "SUCCESSFUL" {
			return nil
		}
		for _, subtask := range task.Subtasks {
			if task.Status == "FAILED" && subtask.Status == "FAILED" {
				if err := call("POST", fmt.Sprintf("%s/subtasks/%d/retry", url, subtask.ID), nil); err != nil {
					return err
				}
			}
		}
		wait()
	}
	return fmt.Errorf("%s has not become SUCCESSFUL", url)
}
