// One task, live: where its time goes, how far it is, what came of it, and what can be done about it.

import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { CopyButton } from "../parts/copy.tsx";
import { Live } from "../parts/live.tsx";
import { TaskMark } from "../parts/state.tsx";
import { words } from "../parts/format.ts";
import type { Task } from "../plane/contract.ts";
import { whileWatched } from "../plane/visible.ts";
import { Actions } from "../task/actions.tsx";
import { Artifacts } from "../task/artifacts.tsx";
import { Attempts, Failed } from "../task/attempts.tsx";
import { Facts } from "../task/facts.tsx";
import { About } from "../task/about.tsx";
import { Standing } from "../task/standing.tsx";
import { Story } from "../task/story.ts";
import { TaskDeliveries } from "../task/task-deliveries.tsx";
import { WaterfallChart } from "../task/waterfall-chart.tsx";
import { about } from "../tasks/about.ts";

export function TaskScreen({ id }: { id: string }): JSX.Element {
  const story = useMemo(() => new Story(id), [id]);
  useEffect(() => whileWatched((signal) => story.follow(signal)), [story]);
  const task = story.task.value;
  if (task === undefined) {
    return (
      <>
        <Crumbs id={id} />
        {story.problem.value === "" ? <p role="status">Reading the task …</p> : <p class="problem" role="alert">{story.problem.value}</p>}
      </>
    );
  }
  return (
    <>
      <Crumbs id={id} />
      <Head task={task} story={story} />
      <div class="task-columns">
        <div class="task-main">
          <Standing story={story} task={task} />
          <Failed task={task} />
          <Artifacts task={task} />
          <WaterfallChart story={story} />
          <Attempts task={task} />
          <TaskDeliveries story={story} />
          <Facts facts={story.facts.value} notes={story.notes.value} />
        </div>
        <About task={task} />
      </div>
    </>
  );
}

function Crumbs({ id }: { id: string }): JSX.Element {
  return (
    <nav class="crumbs" aria-label="Where you are">
      <a href="#/tasks">Tasks</a>
      <span aria-hidden="true">/</span>
      <code>{id}</code>
      <CopyButton text={id} label="Copy the task's id" />
    </nav>
  );
}

function Head({ task, story }: { task: Task; story: Story }): JSX.Element {
  const subject = about(task);
  return (
    <div class="screen-head task-head">
      <div>
        <h1>{words(task.taskType)}</h1>
        {subject !== "" && <p class="task-subject">{subject}</p>}
      </div>
      <div class="task-mark" aria-live="polite">
        <TaskMark task={task} />
      </div>
      {!story.isComplete.value && <Live connection={story.connection.value} />}
      <span class="gap" />
      <Actions task={task} story={story} />
    </div>
  );
}
