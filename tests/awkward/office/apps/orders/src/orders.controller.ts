import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { connection, PARCELS, type Parcel } from '@app/jobs';
import { Queue, QueueEvents } from 'bullmq';

@Controller()
export class OrdersController {
  private readonly parcels = new Queue<Parcel, string>(PARCELS, { connection: connection() });
  private readonly events = new QueueEvents(PARCELS, { connection: connection() });

  @Get('health')
  async health() {
    return { waiting: await this.parcels.getWaitingCount() };
  }

  /** Has a parcel packed, which the worker does, and says what became of it. */
  @Post('orders')
  @HttpCode(201)
  async order(@Body() { order }: Parcel) {
    const job = await this.parcels.add('pack', { order }, { removeOnComplete: 1000 });
    return { id: job.id, packed: await job.waitUntilFinished(this.events, 5000) };
  }

  /** Asks the other API, by its private address. */
  @Get('stock/:article')
  async stock(@Param('article') article: string) {
    const response = await fetch(`${process.env.STOCK_INTERNAL_URL}/articles/${article}`);
    return response.json();
  }
}
